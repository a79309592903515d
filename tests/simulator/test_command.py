"""The process: flags, the line it promises, signals, the crash that is one."""

import argparse
import asyncio
import signal
import subprocess
import sys

import aiohttp
import pytest

from aibrix_extproc.simulator.cli import add_arguments, options_from
from aibrix_extproc.simulator.options import LoraModule, SimulatorOptions
from tests.simulator.conversation import HELLO

COMMAND = (sys.executable, "-m", "aibrix_extproc.simulator.cli", "--port", "0")


def parse(*flags: str) -> SimulatorOptions:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return options_from(parser.parse_args(flags))


def test_flags_without_values_are_the_default_options() -> None:
    expected = SimulatorOptions(port=8000, crash_exits=True)
    assert parse() == expected


def test_flags_reach_the_options() -> None:
    options = parse("--model", "a", "--model", "b", "--lora", "l=/p", "--task", "embed", "--no-admin", "--itl-ms", "2")
    assert (options.models, options.loras, options.task.value) == (("a", "b"), (LoraModule("l", "/p"),), "embed")
    assert (options.admin, options.itl_ms) == (False, 2.0)


@pytest.mark.parametrize(("flags", "sentence"), [
    (["--lora", "x"], "expected NAME=PATH, not 'x'"),
    (["--port", "-1"], "must be a port, 0 to 65535, not '-1'"),
    (["--port", "99999"], "must be a port, 0 to 65535, not '99999'"),  # the socket would take it modulo 65536
    (["--itl-ms", "nan"], "must be a number, 0 or more, not 'nan'"),
    (["--itl-ms", "x"], "must be a number, 0 or more, not 'x'"),
    (["--max-num-seqs", "0"], "must be a positive number, not '0'"),
    (["--output-tokens", "x"], "must be a number, 0 or more, not 'x'"),
    (["--model", ""], "must not be empty"),
])  # fmt: skip
def test_bad_flag_is_refused_in_words(flags: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(*flags)
    assert f"error: argument {flags[0]}: {sentence}\n" in capsys.readouterr().err


def test_import_of_the_command_is_cheap() -> None:
    code = "import sys, aibrix_extproc.simulator.cli; print([m for m in ('aiohttp', 'pydantic') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


async def started() -> tuple[asyncio.subprocess.Process, str]:
    process = await asyncio.create_subprocess_exec(*COMMAND, stdout=subprocess.PIPE)
    assert process.stdout is not None
    async with asyncio.timeout(60):
        line = (await process.stdout.readline()).decode()
    assert line.startswith("listening on http://127.0.0.1:")
    return process, line.split()[-1]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_process_announces_itself_and_ends_well_on_a_signal(
    http: aiohttp.ClientSession, number: signal.Signals
) -> None:
    process, url = await started()
    async with http.post(f"{url}/v1/chat/completions", json=HELLO) as response:
        assert response.status == 200
    process.send_signal(number)
    async with asyncio.timeout(60):
        assert await process.wait() == 0


@pytest.mark.slow
async def test_crash_ends_the_process(http: aiohttp.ClientSession) -> None:
    process, url = await started()
    with pytest.raises(aiohttp.ClientError):
        await http.post(f"{url}/v1/chat/completions", json=HELLO, headers={"x-sim-fault": "crash"})
    async with asyncio.timeout(60):
        assert await process.wait() == 1
