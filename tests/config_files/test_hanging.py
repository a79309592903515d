"""Files that hang: they are refused or given up, it is said in the status, and what was good stays in use."""

import asyncio
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from aibrix_extproc.adapters.fleetfile.source import FleetFile
from aibrix_extproc.adapters.keyfile.source import read_keys
from aibrix_extproc.adapters.secretfile.source import read_secrets
from aibrix_extproc.config_files.deadline import within_deadline
from aibrix_extproc.config_files.errors import SourceFormatError, SourceLookupError
from aibrix_extproc.config_files.file import FollowedFile, Pace, SourceStatus, read_bytes
from aibrix_extproc.tls.client_ca import read_authorities
from aibrix_extproc.tls.files import read_pair
from tests.config_files.dead_mount import dead_mount
from tests.waiting import until

FAST = Pace(poll_seconds=0.01, settle_seconds=0.01, retry_seconds=0.01)
READERS: dict[str, Callable[[Path], object]] = {
    "keys": read_keys,
    "note keys": read_secrets,
    "certificate": lambda path: read_pair(path, path),
    "client authority": read_authorities,
}


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
@pytest.mark.parametrize("kind", ["pipe", "directory", "device"])
def test_what_is_no_regular_file_is_refused_at_once(read: Callable[[Path], object], kind: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises((SourceFormatError, SourceLookupError), match=rf"a {kind}"):  # not "no answer within 5 s"
        read(path)


async def test_pipe_in_the_place_of_a_key_file_is_told_and_the_keys_stay_until_a_file_is_back(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    path.write_text("callers: []\n")
    read, statuses = list[object](), list[SourceStatus]()
    task = asyncio.ensure_future(FollowedFile("keys", path, read_keys, statuses.append, pace=FAST).run(read.append))
    try:
        await until(lambda: len(read) == 1)
        path.unlink()
        os.mkfifo(path)
        await until(lambda: "a pipe; give a regular file" in statuses[-1].error)
        path.unlink()
        path.write_text("callers: []\n")
        await until(lambda: statuses[-1].ok)
        assert len(read) == 2
    finally:
        task.cancel()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["keys", "fleet"])
async def test_mount_that_dies_is_told_while_the_loop_goes_on_and_nothing_piles_up(tmp_path: Path, kind: str) -> None:
    good, link = tmp_path / "good.yaml", tmp_path / "link.yaml"
    good.write_text("callers: []\n" if kind == "keys" else "endpoints: []\n")
    link.symlink_to(good)
    read, statuses = list[object](), list[SourceStatus]()
    source: FleetFile | FollowedFile[object]
    if kind == "keys":
        source = FollowedFile("keys", link, read_keys, statuses.append, pace=FAST)
    else:
        source = FleetFile(link, statuses.append, pace=FAST)
    (tmp_path / "mount").mkdir()
    with dead_mount(tmp_path / "mount") as mount:
        task = asyncio.ensure_future(source.run(read.append))
        await until(lambda: statuses[-1:] != [] and statuses[-1].ok)
        swapped = tmp_path / "swapped"
        swapped.symlink_to(mount / "keys.yaml")
        swapped.replace(link)
        longest = await _longest_turn(lambda: "no answer within 5 s; check the mount" in statuses[-1].error)
        assert longest < 4.5  # of a busy machine; a read in the loop would hold it for five seconds or for ever
        assert not statuses[-1].ok
        await asyncio.sleep(0.2)  # many more looks at it
        hanging = [one for one in threading.enumerate() if one.name.endswith(str(link))]
        assert len(hanging) <= 1
        good_again = tmp_path / "again"
        good_again.symlink_to(good)
        good_again.replace(link)
    await until(lambda: statuses[-1].ok)
    assert len(read) >= 2
    task.cancel()


async def _longest_turn(ended: Callable[[], bool]) -> float:
    longest = 0.0
    async with asyncio.timeout(60):
        while not ended():
            began = time.monotonic()
            await asyncio.sleep(0.01)
            longest = max(longest, time.monotonic() - began)
    return longest


@pytest.mark.slow
def test_file_that_hangs_from_the_start_is_one_sentence(tmp_path: Path) -> None:
    with dead_mount(tmp_path) as mount, pytest.raises(SourceLookupError, match="gave no answer within 5 s"):
        read_bytes(mount / "tls.key", 10, what="the key", too_large="")


def test_second_look_at_what_hangs_waits_for_the_first_one_and_starts_no_other() -> None:
    free, calls = threading.Event(), list[int]()

    def hang() -> None:
        calls.append(1)
        free.wait()

    for _ in range(3):
        with pytest.raises(SourceLookupError, match=r"no answer within 0\.05 s"):
            within_deadline("a file", "read", hang, 0.05)
    assert calls == [1]
    free.set()
    within_deadline("a file", "read", hang, 60)
    assert calls == [1, 1]


def test_error_of_the_work_is_that_of_the_caller() -> None:
    def fail() -> None:
        raise FileNotFoundError(2, "gone")

    with pytest.raises(FileNotFoundError, match="gone"):
        within_deadline("a file", "read", fail)
