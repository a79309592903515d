"""If-Range: a client that goes on with a download must not get the rest of another content."""

import pytest

from aibrix_extproc.core.files.ranges import is_same_content

ETAG = '"84d8"'


@pytest.mark.parametrize(
    ("header", "same"),
    [
        (None, True),
        (ETAG, True),
        (f" {ETAG} ", True),
        ('"other"', False),
        (f"W/{ETAG}", False),  # RFC 9110, 13.1.5: weak validators never match
        ("84d8", False),
        (f'{ETAG}, "other"', False),
        ("Wed, 21 Oct 2015 07:28:00 GMT", False),  # contents have no date
        ("", False),
    ],
)
def test_range_is_for_the_content_that_if_range_names(header: str | None, same: bool) -> None:
    assert is_same_content(header, ETAG) is same
