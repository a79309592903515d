"""Who goes next: fair by work between callers, checked against a plain model; classes; retried requests."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibrix_extproc.core.placing import Caller
from aibrix_extproc.core.routing.queue.classes import WEIGHTS, RequestClass, class_of
from aibrix_extproc.core.routing.queue.line import Line, Ticket

DEFAULT, INTERACTIVE, BATCH = RequestClass.DEFAULT, RequestClass.INTERACTIVE, RequestClass.BATCH


def anyone(caller: str, kind: RequestClass) -> bool:
    return True


def ticket(
    caller: str = "a", work: float = 1.0, at: float = 0.0, kind: RequestClass = DEFAULT, *, retried: bool = False
) -> Ticket:
    return Ticket(caller, kind, work, 10, at, retried=retried)


def gone(line: Line, count: int = 1000) -> list[Ticket]:
    """So many go, in their order."""
    found = list[Ticket]()
    while len(found) < count and (one := line.next(anyone)) is not None:
        line.go(one)
        found.append(one)
    return found


WORKS = st.lists(st.floats(0.001, 100.0), min_size=1, max_size=12)


@given(works=st.dictionaries(st.sampled_from("abcd"), WORKS, min_size=2), interactive=st.sets(st.sampled_from("abcd")))
def test_work_of_two_that_wait_differs_by_no_more_than_their_largest_requests(
    works: dict[str, list[float]], interactive: set[str]
) -> None:
    line = Line()
    kinds = {caller: INTERACTIVE if caller in interactive else DEFAULT for caller in works}
    for caller, sizes in works.items():
        for number, work in enumerate(sizes):
            line.enter(ticket(caller, work, float(number), kinds[caller]))
    left = Counter({caller: len(sizes) for caller, sizes in works.items()})
    done = dict.fromkeys(works, 0.0)  # the plain model: work over weight of those that wait all the time
    bound = {caller: max(sizes) / WEIGHTS[kinds[caller]] for caller, sizes in works.items()}
    while all(left.values()):
        (one,) = gone(line, 1)
        left[one.caller] -= 1
        done[one.caller] += one.work / WEIGHTS[one.kind]
        for first in works:
            for second in works:
                if left[first] and left[second]:
                    assert done[first] - done[second] <= bound[first] + bound[second] + 1e-9


@given(st.lists(st.tuples(st.sampled_from("enl"), st.sampled_from("ab"), st.sampled_from(RequestClass), st.booleans())))
def test_line_holds_what_a_plain_list_holds(steps: list[tuple[str, str, RequestClass, bool]]) -> None:
    line, plain = Line(), list[Ticket]()
    for at, (step, caller, kind, retried) in enumerate(steps):
        if step == "e":
            plain.append(ticket(caller, 1.0, float(at), kind, retried=retried))
            line.enter(plain[-1])
        elif step == "n":
            first = line.next(anyone)
            assert (first is None) is (not plain)
            if first is not None:
                line.go(first)
                plain.remove(first)
                # It was the first of its caller: retried ones first, lines of batches last, else in their order.
                key = (first.kind is BATCH, not first.retried and first.kind is not BATCH, first.entered_at)
                same = [one for one in plain if one.caller == first.caller]
                assert all(
                    key < (one.kind is BATCH, not one.retried and one.kind is not BATCH, one.entered_at) for one in same
                )
                assert first.kind is not BATCH or all(one.kind is BATCH for one in plain)
        elif plain:
            assert line.leave(plain[0])
            assert not line.leave(plain.pop(0))
        assert sorted(map(id, line)) == sorted(map(id, plain))
        assert line.lengths == Counter(one.kind for one in plain)
        assert line.size == 10 * len(plain)


def test_caller_with_large_requests_gets_fewer() -> None:
    line = Line()
    for number in range(100):
        line.enter(ticket("large", 100.0, float(number)))
        line.enter(ticket("small", 1.0, float(number)))
    assert Counter(one.caller for one in gone(line, 51)) == {"small": 50, "large": 1}


def test_interactive_requests_get_their_weight() -> None:
    line = Line()
    for number in range(50):
        line.enter(ticket("a", 1.0, float(number)))
        line.enter(ticket("b", 1.0, float(number), INTERACTIVE))
    assert Counter(one.caller for one in gone(line, 50)) == {"a": 10, "b": 40}


def test_pause_earns_nothing_and_what_was_taken_before_is_not_held_against_a_caller() -> None:
    line = Line()
    for number in range(10):
        line.enter(ticket("a", 1.0, float(number)))
    gone(line, 6)
    for number in range(10):
        line.enter(ticket("late", 1.0, 50.0 + number))
    assert Counter(one.caller for one in gone(line, 8)) == {"a": 4, "late": 4}
    gone(line)
    line.worked("a", DEFAULT, 1000.0)  # while nobody waits
    line.worked("late", DEFAULT, -1000.0)
    for number in range(10):
        line.enter(ticket("a", 1.0, 90.0 + number))
        line.enter(ticket("new", 1.0, 90.0 + number))
    assert Counter(one.caller for one in gone(line, 10))["new"] == 10
    gone(line)
    for number in range(10):
        line.enter(ticket("a", 1.0, 200.0 + number))
        line.enter(ticket("new", 1.0, 200.0 + number))
    assert Counter(one.caller for one in gone(line, 10)) == {"a": 5, "new": 5}


def test_who_may_not_is_passed_over() -> None:
    line = Line()
    line.enter(ticket("a"))
    line.enter(ticket("b", at=1.0))
    first = line.next(lambda caller, kind: caller != "a")
    assert first is not None
    assert first.caller == "b"
    assert line.next(lambda caller, kind: False) is None


@pytest.mark.parametrize(
    ("label", "batch", "kind"),
    [
        ("interactive", False, INTERACTIVE), ("batch", False, BATCH), ("", False, DEFAULT),
        ("urgent", False, DEFAULT), ("interactive", True, BATCH),
    ],
)  # fmt: skip
def test_class_is_that_of_the_key_and_a_line_of_a_batch_is_batch(label: str, batch: bool, kind: RequestClass) -> None:
    assert class_of(Caller("me", labels={"class": label} if label else {}), batch=batch) is kind
