"""The README of the server: its example runs where nothing else of ours is, and its tables are those of the code."""

import asyncio
import dataclasses
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc.aio
import pytest

import aibrix_extproc.http2
from aibrix_extproc.http2.limits import ConnectionLimits
from aibrix_extproc.http2.listener_limits import ListenerLimits
from aibrix_extproc.http2.timeouts import Timeouts

ROOM = Path(aibrix_extproc.http2.__file__).parent
ROOT = Path(__file__).parents[2]
README = (ROOM / "README.md").read_text(encoding="utf-8")
LIBRARIES = ("hpack", "hyperframe")  # hpack and what it may bring


@pytest.fixture(name="alone")
def package_of_its_own(tmp_path: Path) -> Path:
    """A folder with the room, its libraries, and nothing else that is not of the standard library."""
    package = tmp_path / "aibrix_extproc"
    package.mkdir()
    (package / "__init__.py").touch()
    shutil.copytree(ROOM, package / "http2", ignore=shutil.ignore_patterns("__pycache__"))
    for library in LIBRARIES:
        installed = Path(sysconfig.get_path("purelib"), library)
        if installed.is_dir():
            shutil.copytree(installed, tmp_path / library, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def run_alone(alone: Path, *arguments: str) -> list[str]:
    """A command line of Python without any installed package but those in the folder."""
    start = f"import sys; sys.path.insert(0, {str(alone)!r}); exec(sys.argv[1])"
    return [sys.executable, "-I", "-S", "-c", start, *arguments]


def test_every_module_can_be_imported_without_the_rest_of_the_repository(alone: Path) -> None:
    names = sorted(f"aibrix_extproc.http2.{path.stem}" for path in ROOM.glob("*.py") if path.stem != "__init__")
    assert len(names) > 20
    for code, passes in (
        (f"import importlib; [importlib.import_module(one) for one in {names!r}]", True),
        ("import aibrix_extproc.rope", False),
        ("import msgspec", False),
    ):
        done = subprocess.run(run_alone(alone, code), capture_output=True, text=True, check=False)
        assert (done.returncode == 0) is passes, done.stderr


async def test_example_serves_a_client_of_grpcio(alone: Path) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    process = await asyncio.create_subprocess_exec(*run_alone(alone, example), stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        async with asyncio.timeout(60):
            port = int(await process.stdout.readline())
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                call = channel.stream_stream("/test.Echo/Echo")(requests())
                assert [answer async for answer in call] == [b"one", bytes(900_000), b"three"]
    finally:
        process.kill()
        await process.wait()


async def requests() -> AsyncIterator[bytes]:
    for message in (b"one", bytes(900_000), b"three"):
        yield message


def rows(title: str) -> Iterator[tuple[str, str]]:
    """Fields and defaults of the table under a heading."""
    _, _, section = README.partition(f"### `{title}`")
    assert section
    for line in section.partition("\n#")[0].splitlines():
        if line.startswith("| `"):
            field, default = line.split("|")[1:3]
            yield field.strip(" `"), default.strip()


@pytest.mark.parametrize("limits", [ConnectionLimits, ListenerLimits, Timeouts])
def test_tables_have_every_limit_with_its_default(limits: type) -> None:
    assert dataclasses.is_dataclass(limits)
    assert list(rows(limits.__name__)) == [(one.name, str(one.default)) for one in dataclasses.fields(limits)]


def test_tests_that_the_oracles_table_names_are_there() -> None:
    named = re.findall(r"`(?:tests/\w+(?:/\w+)*/)?(test_\w+\.py)`", README.partition("## How it is tested")[2])
    assert len(named) > 8
    for name in named:
        assert list((ROOT / "tests").rglob(name)), name
