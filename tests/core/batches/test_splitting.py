"""Lines out of pieces, however they are cut and however long they are."""

import tracemalloc

import pytest

from aibrix_extproc.core.batches.splitting import LineSplitter
from aibrix_extproc.core.batches.validation import InputLimits, Validation

MIB = 1024 * 1024


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_lines_do_not_depend_on_how_the_content_is_cut(size: int) -> None:
    content = b"\xef\xbb\xbfone\r\n\ntwo" + b"x" * 20 + b"\n  \nlast"
    splitter = LineSplitter(10)
    pieces = [content[at : at + size] for at in range(0, len(content), size)]
    found = [one for piece in pieces for one in splitter.feed(piece)] + list(splitter.end())
    assert [one.text for one in found] == [b"one", b"", None, b"  ", b"last"]
    assert [one.number for one in found] == [1, 2, 3, 4, 5]
    assert b"".join(content[one.start : one.end] for one in found) == content


def test_line_of_150_megabytes_takes_no_more_memory_than_a_line_may_have() -> None:
    piece, splitter = b"x" * (MIB // 4), LineSplitter(MIB)
    validation = Validation("/v1/chat/completions", lambda _: True, InputLimits(line_bytes=MIB))
    tracemalloc.start()
    try:
        for _ in range(600):
            for one in splitter.feed(piece):
                validation.feed(one)
        for one in splitter.end():
            validation.feed(one)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [(one.code, one.line) for one in validation.errors] == [("invalid_json_line", 1)]
    assert peak < 2 * MIB


def test_batch_may_have_50_000_requests() -> None:
    assert InputLimits().requests == 50_000
