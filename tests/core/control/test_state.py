"""Control state: whatever pages rows come in, views show the last state of each row."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibrix_extproc.core.control.rows import Page, Row, Section
from aibrix_extproc.core.control.state import Changes, ControlState


class Size(msgspec.Struct, frozen=True):
    size: int


def a_row(row_id: str, version: int, size: int | None, section: str = "limits") -> Row:
    return Row(section, row_id, version, None if size is None else msgspec.Raw(msgspec.json.encode({"size": size})))


def test_a_change_reaches_the_view_and_its_subscriber() -> None:
    state = ControlState()
    view = state.view(Section.LIMITS, Size)
    seen: list[Changes[Size]] = []
    view.subscribe(seen.append)
    state.apply(Page("h", 2, (a_row("a", 1, 1), a_row("b", 2, 2)), restart=True))
    state.apply(Page("h", 4, (a_row("a", 3, None), a_row("b", 4, 5))))
    state.apply(Page("h", 9, (a_row("x", 9, 1, section="of the future"),)))
    assert seen == [Changes({"a": Size(1), "b": Size(2)}, {}), Changes({"b": Size(5)}, {"a": Size(1)})]
    assert view.records == {"b": Size(5)}
    assert state.version == 9


def test_a_row_that_cannot_be_read_changes_nothing_and_is_named() -> None:
    state = ControlState()
    view = state.view(Section.LIMITS, Size)
    state.apply(Page("h", 1, (a_row("a", 1, 1),), restart=True))
    state.apply(Page("h", 2, (Row("limits", "a", 2, msgspec.Raw(b'{"size": "much"}')),)))
    assert view.records == {"a": Size(1)}
    assert list(state.unreadable) == [("limits", "a")]
    state.apply(Page("h", 3, (a_row("a", 3, 3),)))
    assert view.records == {"a": Size(3)}
    assert not state.unreadable


def test_a_restart_keeps_records_until_its_last_page() -> None:
    state = ControlState()
    view = state.view(Section.LIMITS, Size)
    state.apply(Page("old", 9, (a_row("gone", 8, 1), a_row("stays", 9, 2)), restart=True))
    assert state.complete
    state.apply(Page("new", 1, (a_row("stays", 1, 3),), more=True, restart=True))
    assert not state.complete
    assert view.records == {"gone": Size(1), "stays": Size(3)}
    state.apply(Page("new", 2, (a_row("added", 2, 4),)))
    assert state.complete
    assert view.records == {"stays": Size(3), "added": Size(4)}


def test_a_section_has_one_type_and_is_asked_for_in_time() -> None:
    state = ControlState()
    assert state.view(Section.LIMITS, Size) is state.view(Section.LIMITS, Size)
    with pytest.raises(TypeError, match="limits"):
        state.view(Section.LIMITS, Row)
    state.apply(Page("h", 1, ()))
    with pytest.raises(RuntimeError, match="keys"):
        state.view(Section.KEYS, Size)


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.none() | st.integers(0, 9)), max_size=30),
    st.lists(st.integers(1, 7), min_size=30, max_size=30),
)
def test_pages_of_any_length_fold_to_the_same_state(changes: list[tuple[str, int | None]], lengths: list[int]) -> None:
    state = ControlState()
    view = state.view(Section.LIMITS, Size)
    told: dict[str, Size] = {}

    def follow(change: Changes[Size]) -> None:
        told.update(change.put)
        for name in change.removed:
            del told[name]

    view.subscribe(follow)
    rows = [a_row(name, number, size) for number, (name, size) in enumerate(changes, 1)]
    while rows:
        page, rows = rows[: lengths[0]], rows[lengths[0] :]
        lengths = lengths[1:]
        state.apply(Page("h", page[-1].version, tuple(page), more=bool(rows)))
    expected = {name: Size(size) for name, size in dict(changes).items() if size is not None}
    assert view.records == told == expected
