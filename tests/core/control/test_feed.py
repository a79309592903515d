"""Messages of the control feed, and pages merged into fewer rows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibrix_extproc.core.control.feed import (
    MAX_IN_FLIGHT,
    FeedRequest,
    Report,
    decode_page,
    decode_report,
    decode_request,
    encode,
    encode_page,
    merged,
)
from aibrix_extproc.core.control.rows import Page, Section
from aibrix_extproc.core.control.state import ControlState
from tests.core.control.test_state import Size, a_row


def test_messages_arrive_as_they_were_sent() -> None:
    request = FeedRequest("n", "h", 3, True, 2.5)
    assert decode_request(encode(request)) == request
    report = Report(4, {"engine-1": 2})
    assert decode_report(encode(report)) == report
    page = Page("h", 9, (a_row("a", 1, 2), a_row("b", 2, None)), more=True, restart=True)
    found = decode_page(encode_page(page))
    assert encode_page(found) == encode_page(page)
    assert found.rows[1].data is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'{"history":1}', b"\xff", b'{"rows":[["a"]]}'])
def test_anything_else_is_a_value_error(content: bytes) -> None:
    for decode in (decode_page, decode_report, decode_request):
        with pytest.raises(ValueError, match=r"\S"):
            decode(content)


def test_a_report_is_bounded() -> None:
    long = Report(1, {str(number): 1 for number in range(MAX_IN_FLIGHT + 1)})
    with pytest.raises(ValueError, match="endpoints at most"):
        decode_report(encode(long))


pages = st.lists(
    st.builds(
        lambda history, rows, more, restart: (history, rows, more, restart),
        st.sampled_from("hk"),
        st.lists(st.tuples(st.sampled_from("abcd"), st.none() | st.integers(0, 9)), max_size=4),
        st.booleans(),
        st.booleans(),
    ),
    max_size=8,
)


@given(pages, st.integers(1, 5))
def test_merged_pages_lead_to_the_same_state(
    given_pages: list[tuple[str, list[tuple[str, int | None]], bool, bool]], rows_of_page: int
) -> None:
    version = 0
    made = []
    for history, rows, more, restart in given_pages:
        versions = range(version + 1, version + 1 + len(rows))
        version += len(rows)
        found = tuple(a_row(name, number, size) for (name, size), number in zip(rows, versions, strict=True))
        made.append(Page(history, version, found, more, restart))
    expected: tuple[object, ...] = ({}, 0, "")
    state = ControlState()
    view = state.view(Section.LIMITS, Size)
    for page in made:
        state.apply(page)
        if state.complete:
            expected = dict(view.records), state.version, state.history
    state = ControlState()
    view = state.view(Section.LIMITS, Size)
    for page in merged(made, rows_of_page):
        state.apply(page)
    assert (dict(view.records), state.version, state.history) == expected
    assert state.complete == bool(state.history)
