"""How `aibrix-extproc serve` starts, on every transport; what keeps it from that is one sentence."""

import asyncio
import json
import socket
import ssl
import subprocess
from pathlib import Path

import aiohttp
import pytest

from tests import warm
from tests.adapters.extproc.transports import SERVING, check, plain, secure

TRANSPORTS = ("grpcio", "lean")


def refused(*options: str) -> tuple[int, str]:
    command = warm.command("aibrix_extproc", "serve", "--endpoint", "http://127.0.0.1:1", *options)
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(("option", "other", "purpose"), [
    ("--port", "--admin-port", "ext_proc"),
    ("--admin-port", "--port", "admin"),
])  # fmt: skip
def test_busy_port_is_one_sentence(transport: str, option: str, other: str, purpose: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        code, output = refused("--transport", transport, option, str(port), other, "0")
    assert (code, output) == (
        2,
        f"aibrix-extproc: cannot listen on 127.0.0.1:{port} for {purpose}: address already in use\n",
    )


@pytest.mark.slow
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_address_of_another_machine_is_one_sentence(transport: str) -> None:
    code, output = refused("--transport", transport, "--host", "192.0.2.1", "--port", "9002", "--admin-port", "0")
    sentence = "cannot listen on 192.0.2.1:9002 for ext_proc: cannot assign requested address"
    assert (code, output) == (2, f"aibrix-extproc: {sentence}\n")


@pytest.mark.slow
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_busy_health_port_is_one_sentence(transport: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        code, output = refused(
            *("--transport", transport, "--port", "0", "--admin-port", "0", "--health-port", str(port))
        )
    assert code == 2
    said = [line for line in output.splitlines() if not line.startswith("{")]  # the log says that the rest is stopped
    assert said == [f"aibrix-extproc: cannot listen on 127.0.0.1:{port} for health: address already in use"]


@pytest.mark.slow
def test_certificate_that_is_missing_is_one_sentence(tmp_path: Path) -> None:
    code, output = refused("--tls", "files", "--tls-cert", str(tmp_path))
    sentence = "tls.crt: the certificate cannot be read: No such file or directory; create it or correct its path\n"
    assert (code, output) == (2, f"aibrix-extproc: {tmp_path}/{sentence}")


@pytest.mark.slow
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_gateway_with_a_certificate_of_its_own_is_served_and_says_so(transport: str) -> None:
    command = warm.command("aibrix_extproc", "serve", "--endpoint", "http://127.0.0.1:1", "--transport", transport)
    command += ["--tls", "self-signed", "--tls-name", "epp.test", "--health-port", "0", "--port", "0"]
    command += ["--admin-port", "0"]
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    try:
        async with asyncio.timeout(60):
            where = await listening(process)
        assert where["tls"] == "self-signed"
        ports = {name: where[name].rpartition(":")[2] for name in ("ext_proc", "health", "admin")}
        certificate = await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", int(ports["ext_proc"])))
        async with secure(int(ports["ext_proc"]), certificate.encode()) as channel:
            assert await check(channel) == SERVING
        async with plain(int(ports["health"])) as channel:
            assert await check(channel) == SERVING
        async with aiohttp.ClientSession() as http:
            async with http.get(f"http://127.0.0.1:{ports['admin']}/readyz") as answer:
                assert "epp.test" in (await answer.json())["certificate"]["names"]
            async with http.get(f"http://127.0.0.1:{ports['admin']}/metrics") as answer:
                assert "aibrix_extproc_certificate_ok 1.0" in await answer.text()
    finally:
        process.terminate()
        assert await process.wait() == 0


@pytest.mark.slow
async def test_fleet_file_that_was_never_good_is_told_from_one_that_broke(tmp_path: Path) -> None:
    fleet = tmp_path / "fleet.yaml"
    command = warm.command("aibrix_extproc", "serve", "--fleet", str(fleet), "--port", "0", "--admin-port", "0")
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    try:
        async with asyncio.timeout(60):
            missing = await line_of(process, "fleet source cannot be used, not ready until it can")
            assert missing["error"].endswith("No such file or directory; create it or correct its path")
            fleet.write_text("endpoints: []")
            await line_of(process, "fleet source is good")
            fleet.write_text("endpoints: 5")
            await line_of(process, "fleet source is broken, the last good fleet stays in use")
    finally:
        process.terminate()
        assert await process.wait() == 0


@pytest.mark.slow
@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6; a kernel with it is needed")
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_gateway_on_the_unspecified_address_of_ipv6_is_reached_by_both_families(transport: str) -> None:
    command = warm.command("aibrix_extproc", "serve", "--endpoint", "http://127.0.0.1:1", "--transport", transport)
    command += ["--host", "::", "--port", "0", "--health-port", "0", "--admin-host", "::", "--admin-port", "0"]
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    try:
        async with asyncio.timeout(60):
            where = await listening(process)
        ports = {name: where[name].removeprefix("[::]:") for name in ("ext_proc", "health", "admin")}
        for host in ("127.0.0.1", "[::1]"):
            for name in ("ext_proc", "health"):
                async with plain(int(ports[name]), host) as channel:
                    assert await check(channel) == SERVING
            async with (
                aiohttp.ClientSession() as http,
                http.get(f"http://{host}:{ports['admin']}/livez") as answer,
            ):
                assert answer.status == 200
    finally:
        process.terminate()
        assert await process.wait() == 0


@pytest.mark.slow
@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6; a kernel with it is needed")
@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(("option", "host", "purpose"), [
    ("--port", "--host", "ext_proc"),
    ("--admin-port", "--admin-host", "admin"),
])  # fmt: skip
def test_port_that_is_busy_for_one_family_is_one_sentence(transport: str, option: str, host: str, purpose: str) -> None:
    others = {"--port": "0", "--admin-port": "0"}
    with socket.create_server(("0.0.0.0", 0)) as busy:
        port = busy.getsockname()[1]
        given = [word for pair in (others | {option: str(port)}).items() for word in pair]
        code, output = refused("--transport", transport, host, "::", *given)
    assert (code, output) == (
        2,
        f"aibrix-extproc: cannot listen on [::]:{port} for {purpose}: address already in use\n",
    )


async def listening(process: asyncio.subprocess.Process) -> dict[str, str]:
    """The log line that tells the ports."""
    return await line_of(process, "listening")


async def line_of(process: asyncio.subprocess.Process, message: str) -> dict[str, str]:
    """The next log line with this message."""
    assert process.stderr is not None
    while line := await process.stderr.readline():
        entry: dict[str, str] = json.loads(line)
        if entry["message"] == message:
            return entry
    raise AssertionError("the gateway has ended")
