"""The command line: what it prints, how it exits, and that asking for help costs nothing."""

import argparse
import importlib
import subprocess
import sys

import pytest

from aibrix_extproc import __version__
from aibrix_extproc.cli.main import COMMANDS, Command, main

# What only a running server needs.
HEAVY = ("grpc", "google.protobuf", "aiohttp", "uvloop", "prometheus_client", "pydantic", "envoy_data_plane", "asyncio")


def exit_code(*words: str) -> int | str | None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    return ended.value.code


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("--version") == 0
    assert capsys.readouterr().out == f"aibrix-extproc {__version__}\n"


def test_help_lists_every_command_and_says_where_to_start(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("--help") == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert all(command.name in printed and command.summary in printed for command in COMMANDS)
    assert "Start here: aibrix-extproc local" in printed


def test_help_loads_nothing_that_serving_needs() -> None:
    program = (
        "import sys\n"
        "from aibrix_extproc.cli.main import main\n"
        "try:\n    main(['--help'])\n"
        f"finally:\n    print('loaded:', [name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert printed.splitlines()[-1] == "loaded: []"


def test_module_runs_as_the_command_does() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "aibrix_extproc", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"aibrix-extproc {__version__}\n"


@pytest.mark.parametrize("words", [(), ("nonsense",), ("--nonsense",), ("config", "--nonsense"), ("config", "--port")])
def test_wrong_usage_exits_with_2_and_says_so_on_standard_error(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(*words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("usage: aibrix-extproc")


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_command_has_a_module_with_options_and_help(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert callable(importlib.import_module(command.module).run)
    assert exit_code(command.name, "--help") == 0
    assert f"usage: aibrix-extproc {command.name}" in capsys.readouterr().out


class ScriptedCommand:
    """A command that ends as it is told."""

    def __init__(self, end: BaseException | int) -> None:
        self._end = end

    def run(self, args: argparse.Namespace) -> int:
        if isinstance(self._end, BaseException):
            raise self._end
        return self._end

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """No options."""


@pytest.mark.parametrize(("end", "code"), [(0, 0), (7, 7), (KeyboardInterrupt(), 130), (BrokenPipeError(), 0)])
def test_end_of_a_command_is_the_exit_code(
    end: BaseException | int, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "aibrix_extproc.cli.config", ScriptedCommand(end))
    assert main(["config"]) == code
