"""File descriptors run out for those who take them, not for operators."""

import asyncio
import json
import logging
import os
import resource
import socket
import sys

import aiohttp
import pytest

from aibrix_extproc.app.descriptors import connections_that_fit, reserve_of

LIMIT = 300


@pytest.mark.parametrize(
    ("wanted", "limit", "fit"),
    [(4096, 1_048_576, 4096), (4096, 1024, 768), (100, 1024, 100), (4096, 65, 1), (7, resource.RLIM_INFINITY, 7)],
)
def test_connections_leave_a_reserve(wanted: int, limit: int, fit: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    assert connections_that_fit(wanted, limit) == fit
    assert ("raise `ulimit -n`" in caplog.text) is (fit < wanted)


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["lean", "grpcio"])
async def test_admin_port_answers_while_peers_take_every_connection_they_get(transport: str) -> None:
    serve = f"{sys.executable} -m aibrix_extproc serve --endpoint http://127.0.0.1:9 --port 0 --admin-port 0"
    process = await asyncio.create_subprocess_exec(
        # The soft limit is lower still: it is raised to the hard one.
        *("bash", "-c", f"ulimit -Sn 64 && ulimit -Hn {LIMIT} && exec {serve} --transport {transport}"),
        stderr=asyncio.subprocess.PIPE,
    )
    taken: list[socket.socket] = []
    try:
        ext_proc, admin, said = await _addresses(process)
        assert any("raise `ulimit -n`" in line for line in said) is True
        host, _, port = ext_proc.rpartition(":")
        for _ in range(2 * LIMIT):
            peer = socket.create_connection((host, int(port)), timeout=10)
            taken.append(peer)
        await _settled(process.pid)
        async with aiohttp.ClientSession() as session, asyncio.timeout(60):
            for _ in range(5):
                async with session.get(f"http://{admin}/metrics", headers={"connection": "close"}) as answer:
                    assert answer.status == 200
    finally:
        for peer in taken:
            peer.close()
        process.kill()
        await process.communicate()


async def _settled(pid: int) -> None:
    """Wait until it has taken all the connections that it will take."""
    counts = [-1]
    async with asyncio.timeout(60):
        while len(counts) < 10 or len(set(counts[-10:])) > 1:
            counts.append(len(os.listdir(f"/proc/{pid}/fd")))
            await asyncio.sleep(0.1)


async def _addresses(process: asyncio.subprocess.Process) -> tuple[str, str, list[str]]:
    assert process.stderr is not None
    said: list[str] = []
    async with asyncio.timeout(60):
        while line := (await process.stderr.readline()).decode():
            said.append(line)
            if line.startswith("{") and (found := json.loads(line))["message"] == "listening":
                return found["ext_proc"], found["admin"], said
    raise AssertionError("".join(said))


def test_reserve_is_bounded_on_both_sides() -> None:
    assert [reserve_of(limit) for limit in (100, 1024, 1_000_000)] == [64, 256, 16_384]
