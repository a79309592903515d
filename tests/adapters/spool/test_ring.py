"""The spool: a ring of entries, against a plain list, and what a killed process leaves in its file."""

import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibrix_extproc.adapters.spool.folder import open_spool
from aibrix_extproc.adapters.spool.ring import Ring, SpoolError

CAPACITY = 64
STEPS = st.lists(st.binary(max_size=70) | st.integers(0, 3), max_size=60)


@given(STEPS)
def test_ring_is_a_bounded_queue(steps: list[bytes | int]) -> None:
    ring, model = Ring(CAPACITY), list[bytes]()
    for step in steps:
        if isinstance(step, int):
            ring.drop(step)
            del model[:step]
        else:
            fits = sum(len(one) + 8 for one in [*model, step]) <= CAPACITY
            assert ring.append(step) is fits
            model += [step] if fits else []
        assert (len(ring), ring.bytes_used) == (len(model), sum(len(one) + 8 for one in model))
        assert ring.oldest(1000, 2**30) == model


@given(st.lists(st.binary(min_size=1, max_size=20), max_size=10), st.integers(1, 5), st.integers(0, 60))
def test_oldest_keeps_both_bounds_but_gives_at_least_one(entries: list[bytes], most: int, most_bytes: int) -> None:
    ring = Ring(10_000)
    for entry in entries:
        ring.append(entry)
    found = ring.oldest(most, most_bytes)
    assert found == entries[: len(found)]
    assert len(found) <= most
    assert sum(map(len, found)) <= most_bytes or len(found) == 1
    assert found or not entries


def test_file_keeps_what_was_not_dropped(tmp_path: Path) -> None:
    ring = Ring(CAPACITY, tmp_path / "s")
    for round_ in range(5):  # round the end of the ring, too
        assert ring.append(b"entry-%d" % round_)
        assert ring.append(b"other-%d" % round_)
        ring.drop(1)
        ring.close()
        ring = Ring(CAPACITY, tmp_path / "s")
        assert (ring.oldest(9, 999), ring.broken) == ([b"other-%d" % round_], False)
        ring.drop(1)


def test_killed_process_leaves_its_entries(tmp_path: Path) -> None:
    script = (
        "import os, sys, pathlib; from aibrix_extproc.adapters.spool.ring import Ring\n"
        "ring = Ring(4096, pathlib.Path(sys.argv[1]))\n"
        "for n in range(50): ring.append(b'entry-%d' % n)\n"
        "ring.drop(20); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "s")])
    ring = Ring(4096, tmp_path / "s")
    assert (ring.oldest(99, 9999), ring.broken) == ([b"entry-%d" % n for n in range(20, 50)], False)


def test_entries_end_where_the_file_is_damaged(tmp_path: Path) -> None:
    file = tmp_path / "s"
    ring = Ring(4096, file)
    for number in range(5):
        ring.append(b"entry-%d" % number)
    ring.close()
    with file.open("r+b") as opened:
        opened.seek(64 + 3 * 15 + 8)
        opened.write(b"X")
    ring = Ring(4096, file)
    assert (ring.oldest(99, 9999), ring.broken) == ([b"entry-0", b"entry-1", b"entry-2"], True)
    assert ring.append(b"next")


@pytest.mark.parametrize(
    "head",
    [
        b"something else",
        b"aibrix-spool-1\0\0" + struct.pack("<QQ", 5, 2),
        b"aibrix-spool-1\0\0" + struct.pack("<QQ", 0, 2**40),
    ],
    ids=["other", "backwards", "too long"],
)
def test_file_of_something_else_begins_anew(head: bytes, tmp_path: Path) -> None:
    file = tmp_path / "s"
    file.write_bytes(head.ljust(64, b"x") + bytes(100))
    ring = Ring(CAPACITY, file)
    assert (len(ring), ring.broken) == (0, True)
    assert ring.append(b"entry")


def test_processes_have_spools_of_their_own_and_take_over_those_of_dead_ones(tmp_path: Path) -> None:
    first, second = (open_spool(tmp_path / "f", "usage", 4096) for _ in range(2))
    first.append(b"of the first")
    second.append(b"of the second")
    first.close()
    second.close()
    heir = open_spool(tmp_path / "f", "usage", 4096)
    assert heir.oldest(9, 999) == [b"of the first", b"of the second"]
    assert [path.name for path in (tmp_path / "f").iterdir()] == ["usage-0.spool"]


def test_folder_that_cannot_be_used_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SpoolError, match="cannot make the folder"):
        open_spool(tmp_path / "file", "usage", 4096)
