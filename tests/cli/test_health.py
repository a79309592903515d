"""`aibrix-extproc health` against a real admin server: what it prints and how it exits."""

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping

import pytest

from aibrix_extproc.adapters.http.admin import AdminServer
from aibrix_extproc.cli.main import main

Printed = pytest.CaptureFixture[str]


class Beside:
    """An admin server whose health the test decides."""

    def __init__(self) -> None:
        self.ready = True
        self.report: Mapping[str, object] = {"fleet_known": False}
        self.port = 0
        self.server = AdminServer(
            metrics=lambda: (b"", "text/plain"),
            health=lambda: (self.ready, self.report),
            fleet=dict,
            version="0",
        )

    async def ask(self, *words: str) -> int:
        return await asyncio.to_thread(main, ["health", "--admin-port", str(self.port), *words])


@pytest.fixture
async def beside() -> AsyncIterator[Beside]:
    one = Beside()
    one.port = await one.server.start("127.0.0.1", 0)
    yield one
    await one.server.stop()


async def test_ready_gateway_is_exit_code_0(beside: Beside, capsys: Printed) -> None:
    assert await beside.ask() == 0
    assert capsys.readouterr().out == "ready\n"


async def test_gateway_that_is_not_ready_is_exit_code_1_with_its_reasons_on_one_line(
    beside: Beside, capsys: Printed
) -> None:
    beside.ready = False
    assert await beside.ask() == 1
    expected = f'not ready: http://127.0.0.1:{beside.port}/readyz answers 503 {{"fleet_known": false}}\n'
    assert capsys.readouterr().err == expected


async def test_gateway_that_is_not_ready_is_alive_all_the_same(beside: Beside, capsys: Printed) -> None:
    beside.ready = False
    assert await beside.ask("--live") == 0
    assert capsys.readouterr().out == "alive\n"


@pytest.mark.parametrize("host", ["0.0.0.0", "localhost"])
async def test_server_on_every_interface_is_asked_on_the_loopback(beside: Beside, host: str) -> None:
    assert await beside.ask("--admin-host", host) == 0


async def test_place_of_the_server_is_read_like_every_setting(beside: Beside, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIBRIX_EXTPROC_ADMIN__PORT", str(beside.port))
    assert await asyncio.to_thread(main, ["health"]) == 0


async def test_long_report_is_cut_at_what_a_health_check_keeps(beside: Beside, capsys: Printed) -> None:
    beside.ready, beside.report = False, {"sources": "x" * 100_000}
    assert await beside.ask() == 1
    assert len(capsys.readouterr().err) < 5000


def test_nobody_there_is_exit_code_1(capsys: Printed) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert main(["health", "--admin-port", str(port)]) == 1
    assert capsys.readouterr().err == f"not ready: http://127.0.0.1:{port}/readyz: Connection refused\n"


async def test_other_server_in_its_place_is_exit_code_1(capsys: Printed) -> None:
    async def babble(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail here\r\n")
        writer.close()

    async with await asyncio.start_server(babble, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert await asyncio.to_thread(main, ["health", "--admin-port", str(port)]) == 1
    assert "/readyz does not speak HTTP: BadStatusLine" in capsys.readouterr().err


def test_server_that_does_not_answer_is_exit_code_1_in_time(capsys: Printed) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        assert main(["health", "--admin-port", str(port), "--timeout", "0.05"]) == 1
    assert capsys.readouterr().err == f"not ready: http://127.0.0.1:{port}/readyz did not answer within 0.05 s\n"


def test_settings_that_cannot_be_used_are_exit_code_2(capsys: Printed) -> None:
    assert main(["health", "--admin-port", "http"]) == 2
    assert "admin.port" in capsys.readouterr().err


@pytest.mark.parametrize("seconds", ["0", "-1", "61", "nan", "soon"])
def test_odd_timeout_is_wrong_usage(seconds: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["health", "--timeout", seconds])
    assert ended.value.code == 2


@pytest.mark.parametrize("seconds", ["x", "0", "61", "nan"])
def test_time_that_is_none_is_refused_in_words(seconds: str, capsys: Printed) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["health", "--timeout", seconds])
    assert ended.value.code == 2
    assert capsys.readouterr().err.endswith(f"argument --timeout: {seconds} is no number of seconds up to 60\n")
