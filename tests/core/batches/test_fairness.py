"""Callers take turns, however many batches one of them has."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from aibrix_extproc.core.batches.fairness import Candidate, Kind, Places, in_turn

# Batches of each caller.
CROWDS = st.lists(st.integers(1, 4), min_size=2, max_size=4)


@settings(max_examples=25)
@given(crowds=CROWDS, slots=st.integers(1, 5))
def test_callers_get_equal_shares_and_so_do_the_batches_of_a_caller(crowds: list[int], slots: int) -> None:
    """Each slot takes a shard, works for one unit of time, and takes the next; nobody runs dry."""
    batches = [(f"c{caller}", f"b{caller}-{number}") for caller, count in enumerate(crowds) for number in range(count)]
    served: Counter[tuple[str, str]] = Counter()
    last_of_batch: dict[str, float] = {}
    last_of_caller: dict[str, float] = {}
    running: list[tuple[str, str]] = []
    rounds = 24 * len(batches)
    for now in range(1, rounds + 1):
        if len(running) == slots:
            running.pop(0)
        candidates = [
            Candidate(batch, caller, 0.0, last_of_batch.get(batch, 0.0), last_of_caller.get(caller, 0.0))
            for caller, batch in batches
        ]
        first = in_turn(candidates, Counter(running))[0]
        running.append((first.caller, first.batch))
        served[first.caller, first.batch] += 1
        last_of_batch[first.batch] = last_of_caller[first.caller] = float(now)
    by_caller = Counter[str]()
    for (caller, _), count in served.items():
        by_caller[caller] += count
    fair = rounds / len(crowds)
    assert all(abs(count - fair) <= 2 for count in by_caller.values()), by_caller
    for which, size in enumerate(crowds):
        mine = [served[f"c{which}", f"b{which}-{number}"] for number in range(size)]
        assert max(mine) - min(mine) <= 2, mine


def test_newcomer_is_served_before_those_who_were() -> None:
    waiting = [Candidate("old", "alice", 1.0, 50.0, 50.0), Candidate("new", "bob", 99.0, 0.0, 0.0)]
    assert [one.batch for one in in_turn(waiting, {})] == ["new", "old"]


def test_small_batches_one_after_another_win_nothing() -> None:
    """A new batch has never been served, but its caller has."""
    waiting = [Candidate("new", "alice", 99.0, 0.0, 60.0), Candidate("old", "bob", 1.0, 50.0, 50.0)]
    assert [one.batch for one in in_turn(waiting, {})] == ["old", "new"]


def test_kinds_that_get_no_answer_leave_places_for_others() -> None:
    """Shards of models whose engines are gone stay for hours, as their lines are tried until the batch expires."""
    places = Places()
    begun: list[Kind] = []

    def begin(kind: Kind) -> bool:
        free = kind not in places.full()
        if free:
            places.take(kind)
            begun.append(kind)
        return free

    gone = [Kind(f"c{number}", "gone") for number in range(8)]
    for kind in gone:
        for _ in range(100):
            begin(kind)
    assert Counter(begun) == dict.fromkeys(gone[:4], 4) | dict.fromkeys(gone[4:], 1)
    other = Kind("c0", "other")
    assert begin(other), "another model of the same caller"
    assert not begin(other), "one at a time while so many run"
    for kind in begun[:8]:
        places.leave(kind)
    assert begin(other), "there is room again"
