"""Error bodies that come packed, and when an engine says to ask again."""

import gzip
import time
import tracemalloc
import zlib
from collections.abc import Callable

import pytest

from aibrix_extproc.core.openai.upstream.packing import retry_after, unpacked

LIMIT = 65_536
TEXT = b'{"error":{"message":"no"}}' * 40


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


# Packed in the test: gzip writes the time into its head, and names of cases are the same in each process.
@pytest.mark.parametrize(
    ("encoding", "pack"),
    [
        ("", bytes),
        ("identity", bytes),
        ("gzip", gzip.compress),
        (" GZip ", gzip.compress),
        ("x-gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("deflate", raw_deflate),
    ],
)
def test_body_is_unpacked_as_far_as_the_limit(encoding: str, pack: Callable[[bytes], bytes]) -> None:
    packed = pack(TEXT)
    assert unpacked(encoding, packed, LIMIT) == TEXT
    assert len(unpacked(encoding, packed, 60)) <= 60


def test_body_that_is_cut_gives_what_is_there() -> None:
    found = unpacked("gzip", gzip.compress(TEXT, 0)[:200], LIMIT)
    assert len(found) > 100
    assert TEXT.startswith(found)
    assert unpacked("gzip", gzip.compress(TEXT)[:5], LIMIT) == b""


@pytest.mark.parametrize("encoding", ["br", "zstd", "compress", "gzip, gzip", "x" * 10_000])
def test_body_in_a_coding_that_is_not_known_counts_as_none(encoding: str) -> None:
    assert unpacked(encoding, TEXT, LIMIT) == b""


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_body_that_is_not_what_it_says_counts_as_none(encoding: str) -> None:
    assert unpacked(encoding, TEXT, LIMIT) == b""


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress, raw_deflate])
def test_body_made_to_grow_costs_what_an_honest_one_does(pack: object) -> None:
    assert callable(pack)
    bomb = pack(bytes(50_000_000))
    tracemalloc.start()
    started = time.process_time()
    found = unpacked("gzip" if pack is gzip.compress else "deflate", bomb, LIMIT)
    spent, (_, peak) = time.process_time() - started, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found == bytes(LIMIT)
    assert peak < 1_000_000
    assert spent < 0.1


DATE = "Wed, 21 Oct 2026 07:28:00 GMT"


@pytest.mark.parametrize(
    ("given", "kept"),
    [("7", "7"), ("1", "1"), ("60", "60"), (" 0 ", "1"), ("0.2", "1"), ("6.5", "7"), ("59.9", "60"), ("61", "60"),
     ("120", "60"), ("999999999", "60"), ("007", "7")],
)  # fmt: skip
def test_seconds_to_the_next_try_are_kept_within_what_sdks_honour(given: str, kept: str) -> None:
    assert retry_after({"retry-after": given}) == kept


@pytest.mark.parametrize(
    "after",
    [
        "",
        "-1",
        "+1",
        "1e5",
        "soon",
        "1, 2",
        "9" * 10,
        "\u0663",
        DATE,
        DATE.lower(),
        ".5",
        "5.",
        "inf",
        "nan",
        DATE[:-4],
        DATE + "x",
        "2026-10-21",
        "1\r\nx: y",
    ],
)
def test_time_out_of_shape_is_left_out(after: str) -> None:
    assert retry_after({"retry-after": after}) is None


@pytest.mark.parametrize(
    ("after", "now", "kept"),
    [
        ("Wed, 21 Oct 2026 07:28:07 GMT", DATE, "7"),
        ("Wed, 21 Oct 2026 09:28:00 GMT", DATE, "60"),
        ("Tue, 20 Oct 2026 07:28:00 GMT", DATE, "1"),
        ("Thu, 31 Feb 2026 07:28:00 GMT", DATE, None),
        ("Wed, 21 Oct 2026 07:28:07 GMT", "today", None),
    ],
)
def test_date_of_the_next_try_counts_from_the_date_of_the_answer(after: str, now: str, kept: str | None) -> None:
    assert retry_after({"retry-after": after, "date": now}) == kept
