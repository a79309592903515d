"""A text found in a serialised Struct is the one that the protobuf library reads."""

from typing import Any

import pytest
from google.protobuf.struct_pb2 import Struct
from hypothesis import given
from hypothesis import strategies as st

from aibrix_extproc.adapters.accesslog.metadata_text import TextIn

words = st.text(st.characters(codec="utf-8", min_codepoint=32), max_size=200) | st.integers(100, 40_000).map(
    "ü".__mul__
)
values = words | st.booleans() | st.floats(allow_nan=False) | st.none() | st.lists(words, max_size=3)
find = TextIn("sealed")


@given(st.dictionaries(st.sampled_from(["a", "seal", "sealed", "xsealed", "sealed ", "stream"]) | words, values))
def test_text_is_the_one_that_the_library_reads(notes: dict[str, Any]) -> None:
    struct = Struct()
    struct.update(notes)
    wanted = struct.fields["sealed"].string_value if "sealed" in notes else ""
    assert find(struct.SerializeToString()) == wanted.encode()


@given(st.binary(max_size=100), st.binary(max_size=20))
def test_no_bytes_raise(noise: bytes, after: bytes) -> None:
    for struct in (noise, b"\n\x06sealed\x12" + after, noise + b"\n\x06sealed\x12\x03\x1a" + after):
        assert find(struct) in struct


def test_name_that_has_no_short_length_is_refused() -> None:
    with pytest.raises(ValueError, match="128 bytes"):
        TextIn("x" * 128)
