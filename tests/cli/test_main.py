"""The command line: what it prints, how it exits, and that asking for help costs nothing."""

import argparse
import functools
import importlib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence

import pytest

from aibrix_extproc import __version__
from aibrix_extproc.cli.main import COMMANDS, Command, main, parser_for

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


def leaves(parser: argparse.ArgumentParser, *words: str) -> Iterator[tuple[tuple[str, ...], argparse.ArgumentParser]]:
    """The commands and verbs that run something, by the words that lead to them."""
    verbs = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not verbs:
        yield words, parser
    for action in verbs:
        for name, inner in action.choices.items():
            yield from leaves(inner, *words, name)


@functools.cache
def runnable() -> tuple[tuple[tuple[str, ...], argparse.ArgumentParser], ...]:
    return tuple(leaves(parser_for(None, whole=True)))


def test_no_positional_argument_may_be_empty(capsys: pytest.CaptureFixture[str]) -> None:
    """`operations show "$ID"` in a script that has set no ID."""
    for words, leaf in runnable():
        if leaf._get_positional_actions():
            assert exit_code(*words, "") == 2, words
            assert capsys.readouterr().err.endswith("is empty\n"), words


def test_wrong_option_of_any_command_is_told_in_a_few_lines(capsys: pytest.CaptureFixture[str]) -> None:
    for words, _ in runnable():
        assert exit_code(*words, "--nonsense") == 2, words
        *_, last = told = capsys.readouterr().err.splitlines()
        assert "unrecognized arguments: --nonsense" in last, words
        assert len(told) <= 5, words


def test_help_names_each_argument_and_no_default_that_is_none() -> None:
    for words, leaf in runnable():
        for action in leaf._actions:
            assert action.help, (words, action.dest)
        assert re.search(r"default: (None|False|\[\])|[ (]\d+\.0\)", leaf.format_help()) is None, words


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


CONFIG = (sys.executable, "-m", "aibrix_extproc", "config", "--endpoint", "http://127.0.0.1:1")


def told(command: Sequence[str], redirection: str) -> tuple[int, str]:
    """Exit code and standard error of a command whose output goes elsewhere."""
    line = f"exec {shlex.join(command)} {redirection}"
    done = subprocess.run(["sh", "-c", line], stderr=subprocess.PIPE, text=True, check=False)
    return done.returncode, done.stderr


@pytest.mark.slow
def test_output_that_nobody_can_take_is_one_sentence_or_none() -> None:
    assert told(CONFIG, ">&-") == (0, "")
    assert told((*CONFIG[:3], "conformance", "--list"), ">&-") == (0, "")
    sentence = "aibrix-extproc: the output cannot be written: No space left on device\n"
    assert told(CONFIG, ">/dev/full") == (1, sentence)


@pytest.mark.slow
def test_reader_that_leaves_is_no_mistake() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(CONFIG, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


def test_interrupt_while_a_command_is_loaded_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(ScriptedCommand):
        def add_arguments(self, parser: argparse.ArgumentParser) -> None:
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "aibrix_extproc.cli.config", Interrupted(0))
    assert main(["config"]) == 130


def test_wrong_option_is_not_buried_under_all_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("serve", "--port") == 2
    assert capsys.readouterr().err == (
        "usage: aibrix-extproc serve [OPTIONS]\naibrix-extproc serve: error: argument --port: expected one argument\n"
    )
