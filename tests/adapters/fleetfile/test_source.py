"""The watched file and the flags as sources: what they emit, and what their status says."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from aibrix_extproc.adapters.fleetfile.parse import parse_flag
from aibrix_extproc.adapters.fleetfile.source import MAX_FILE_BYTES, FlagSource, FleetFile
from aibrix_extproc.app.ports import EndpointSource
from aibrix_extproc.config_files.errors import SourceFormatError
from aibrix_extproc.config_files.file import Pace, SourceStatus
from aibrix_extproc.core.fleet.model import ServedModel
from aibrix_extproc.core.fleet.reduce import Listed, SourceChange
from tests.waiting import until

ONE = "endpoints:\n- address: 127.0.0.1:8001\n  models: [chat-m]\n"
TWO = ONE + "- address: 127.0.0.1:8002\n"


FAST = Pace(poll_seconds=0.01, settle_seconds=0.01, retry_seconds=0.01)


class Recorder:
    """What a source emitted and reported."""

    def __init__(self) -> None:
        self.listed: list[tuple[str, ...]] = []
        self.changes: list[Listed] = []
        self.statuses: list[SourceStatus] = []

    def emit(self, change: SourceChange) -> None:
        assert isinstance(change, Listed)
        self.changes.append(change)
        self.listed.append(tuple(endpoint.address for endpoint in change.endpoints))


def write(path: Path, content: str | bytes) -> None:
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def remove(path: Path) -> None:
    path.unlink()


@asynccontextmanager
async def running(source: EndpointSource, recorder: Recorder) -> AsyncIterator[None]:
    task = asyncio.ensure_future(source.run(recorder.emit))
    try:
        yield
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "fleet.yaml"


def a_file(path: Path, recorder: Recorder) -> FleetFile:
    return FleetFile(path, recorder.statuses.append, pace=FAST)


async def test_file_when_read_first_lists_its_endpoints_by_address(path: Path, recorder: Recorder) -> None:
    write(path, ONE)
    source = a_file(path, recorder)
    async with running(source, recorder):
        await until(lambda: bool(recorder.listed))
    (endpoint,) = recorder.changes[0].endpoints
    assert recorder.changes[0].source == source.name == "file"
    assert endpoint.identity == endpoint.address == "127.0.0.1:8001"
    assert endpoint.models == (ServedModel("chat-m"),)
    assert [status.ok for status in recorder.statuses] == [True]


@pytest.mark.parametrize("replace", [False, True], ids=["in-place", "by-rename"])
async def test_file_after_an_edit_is_listed_anew(path: Path, recorder: Recorder, replace: bool) -> None:
    write(path, ONE)
    async with running(a_file(path, recorder), recorder):
        await until(lambda: len(recorder.listed) == 1)
        target = path.with_suffix(".new") if replace else path
        write(target, TWO)
        target.replace(path)
        await until(lambda: len(recorder.listed) == 2)
    assert recorder.listed[1] == ("127.0.0.1:8001", "127.0.0.1:8002")


async def test_file_after_a_broken_edit_keeps_the_last_fleet_and_says_so_until_mended(
    path: Path, recorder: Recorder
) -> None:
    write(path, ONE)
    source = a_file(path, recorder)
    async with running(source, recorder):
        await until(lambda: len(recorder.listed) == 1)
        write(path, "endpoints:\n- adress: 127.0.0.1:8002\n")
        await until(lambda: not source.status.ok)
        assert recorder.listed == [("127.0.0.1:8001",)]
        assert f"{path}, line 2, endpoints[0].adress: unknown field" in source.status.error
        assert source.status.wall_since >= recorder.statuses[0].wall_since > 0
        write(path, TWO)
        await until(lambda: source.status.ok)
    assert len(recorder.listed) == 2
    assert [status.ok for status in recorder.statuses] == [True, False, True]
    assert recorder.statuses[-1].error == ""


async def test_file_that_is_deleted_and_comes_back_keeps_and_then_renews_the_fleet(
    path: Path, recorder: Recorder
) -> None:
    write(path, ONE)
    source = a_file(path, recorder)
    async with running(source, recorder):
        await until(lambda: len(recorder.listed) == 1)
        remove(path)
        await until(lambda: not source.status.ok)
        assert "cannot be read: No such file or directory" in source.status.error
        write(path, TWO)
        await until(lambda: len(recorder.listed) == 2)
    assert source.status.ok


async def test_file_that_does_not_exist_yet_is_read_when_it_appears(path: Path, recorder: Recorder) -> None:
    source = a_file(path, recorder)
    async with running(source, recorder):
        await until(lambda: bool(recorder.statuses))
        assert not recorder.statuses[0].ok
        write(path, ONE)
        await until(lambda: source.status.ok)
    assert recorder.listed == [("127.0.0.1:8001",)]


async def test_file_over_the_size_limit_is_refused(path: Path, recorder: Recorder) -> None:
    write(path, "# " + "x" * MAX_FILE_BYTES + "\n" + ONE)
    source = a_file(path, recorder)
    async with running(source, recorder):
        await until(lambda: bool(recorder.statuses))
    assert "is over 1048576 bytes" in source.status.error
    assert recorder.listed == []


async def test_file_in_another_encoding_is_refused_with_the_line(path: Path, recorder: Recorder) -> None:
    write(path, b"endpoints:\n- address: a:1\n  name: caf\xe9\n")
    source = a_file(path, recorder)
    async with running(source, recorder):
        await until(lambda: bool(recorder.statuses))
    assert f"{path}, line 3: not UTF-8" in source.status.error


async def test_key_file_is_read_beside_the_fleet_file_and_again_when_it_changes(path: Path, recorder: Recorder) -> None:
    key = path.parent / "engine.key"
    write(key, "sk-first\n")
    write(path, "endpoints:\n- address: 127.0.0.1:8001\n  api_key_file: engine.key\n")
    async with running(a_file(path, recorder), recorder):
        await until(lambda: len(recorder.listed) == 1)
        write(key, "sk-second\n")
        await until(lambda: len(recorder.listed) == 2)
    assert [change.endpoints[0].api_key for change in recorder.changes] == ["sk-first", "sk-second"]


async def test_key_file_that_is_missing_is_named_in_the_status_and_found_later(path: Path, recorder: Recorder) -> None:
    write(path, "endpoints:\n- address: 127.0.0.1:8001\n  api_key_file: engine.key\n")
    source = a_file(path, recorder)
    async with running(source, recorder):
        await until(lambda: bool(recorder.statuses))
        assert f"line 2, endpoints[0], api_key_file: {path.parent / 'engine.key'} cannot be read" in source.status.error
        (path.parent / "engine.key").write_text("sk-late")
        await until(lambda: source.status.ok)
    assert recorder.changes[0].endpoints[0].api_key == "sk-late"


async def test_host_name_is_resolved_and_stays_visible_as_the_name(path: Path, recorder: Recorder) -> None:
    write(path, "endpoints:\n- address: http://localhost:8001\n")
    async with running(a_file(path, recorder), recorder):
        await until(lambda: bool(recorder.listed))
    (endpoint,) = recorder.changes[0].endpoints
    assert endpoint.address in {"127.0.0.1:8001", "[::1]:8001"}
    assert endpoint.name == "localhost:8001"


async def test_host_name_that_resolves_to_another_entry_is_refused(path: Path, recorder: Recorder) -> None:
    write(path, "endpoints:\n- address: localhost:8001\n- address: 127.0.0.1:8001\n- address: '[::1]:8001'\n")
    source = a_file(path, recorder)
    async with running(source, recorder):
        await until(lambda: bool(recorder.statuses))
    assert "is given already at" in source.status.error


@pytest.mark.parametrize("kind", ["file", "flags"])
async def test_host_name_that_does_not_resolve_is_tried_again_without_an_edit(
    path: Path, recorder: Recorder, kind: str
) -> None:
    write(path, "endpoints:\n- address: engine-1:8001\n")
    known: dict[str, str] = {}

    async def resolve(name: str) -> str | None:
        return known.get(name)

    if kind == "file":
        source: FleetFile | FlagSource = FleetFile(path, recorder.statuses.append, pace=FAST, resolve=resolve)
    else:
        source = FlagSource([parse_flag("engine-1:8001")], recorder.statuses.append, pace=FAST, resolve=resolve)
    async with running(source, recorder):
        await until(lambda: bool(recorder.statuses))
        assert "the host name engine-1 cannot be resolved" in source.status.error
        known["engine-1"] = "10.0.0.7"
        await until(lambda: source.status.ok)
    assert recorder.listed == [("10.0.0.7:8001",)]


async def test_flags_list_their_endpoints_once(recorder: Recorder) -> None:
    entries = [parse_flag("http://127.0.0.1:8001=chat-m", api_key="sk-engine"), parse_flag("127.0.0.1:8002")]
    source = FlagSource(entries, recorder.statuses.append)
    async with running(source, recorder):
        await until(lambda: bool(recorder.listed))
    assert recorder.listed == [("127.0.0.1:8001", "127.0.0.1:8002")]
    assert recorder.changes[0].source == "flags"
    assert [endpoint.api_key for endpoint in recorder.changes[0].endpoints] == ["sk-engine", None]
    assert [endpoint.models for endpoint in recorder.changes[0].endpoints] == [(ServedModel("chat-m"),), ()]
    assert [status.ok for status in recorder.statuses] == [True]


def test_flags_with_one_address_twice_are_refused_before_anything_runs(recorder: Recorder) -> None:
    entries = [parse_flag("127.0.0.1:8001"), parse_flag("http://127.0.0.1:8001=m")]
    with pytest.raises(SourceFormatError, match=r"127\.0\.0\.1:8001 is given already at --endpoint 127\.0\.0\.1:8001"):
        FlagSource(entries, recorder.statuses.append)
