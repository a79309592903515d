"""Places of label values: who gets one, and when it is given back."""

from aibrix_extproc.adapters.telemetry.slots import GONE_SECONDS, OTHER, LabelSlots
from aibrix_extproc.adapters.telemetry.tallies import Distribution, Tally


class Fixture:
    def __init__(self, *names: str, limit: int = 3) -> None:
        self.now = 0.0
        self.names = set(names)
        self.tally = Tally("t", "", ("operation", "model"))
        self.times = Distribution("d", "", ("model",), (1.0,))
        self.slots = LabelSlots("model", limit, (self.tally, self.times), lambda: self.now)
        self.slots.exists = self.names.__contains__

    def count(self, name: str) -> str:
        label = self.slots.of(name)
        self.tally.add(("chat", label))
        self.times.of(label).observe(0.5)
        return label

    def series(self) -> tuple[set[str], set[str]]:
        def labels(metric: Tally | Distribution) -> set[str]:
            return {one.labels["model"] for family in metric.collect() for one in family.samples}

        return labels(self.tally), labels(self.times)


def test_only_names_that_exist_get_a_place() -> None:
    fixture = Fixture("a")
    assert [fixture.count(name) for name in ("a", "forged", "a")] == ["a", OTHER, "a"]
    assert len(fixture.slots) == 1


def test_places_are_bounded() -> None:
    fixture = Fixture(*"abcd")
    assert [fixture.count(name) for name in "abcd"] == ["a", "b", "c", OTHER]


def test_place_of_a_name_that_is_gone_goes_to_one_that_needs_it() -> None:
    fixture = Fixture(*"abcd")
    assert [fixture.count(name) for name in "abcd"] == ["a", "b", "c", OTHER]
    fixture.names.remove("b")
    fixture.now = 2.0
    assert [fixture.count(name) for name in "dab"] == ["d", "a", OTHER]
    assert fixture.series() == ({"a", "c", "d", OTHER}, {"a", "c", "d", OTHER})


def test_search_for_a_place_does_not_run_for_each_name() -> None:
    fixture = Fixture(*(str(number) for number in range(1000)))
    asked: list[str] = []
    fixture.slots.exists = lambda name: asked.append(name) or True  # type: ignore[func-returns-value]
    for number in range(1000):
        fixture.count(str(number))
    assert len(asked) < 1000 + 2 * 3


def test_series_end_when_their_name_was_gone_for_long() -> None:
    fixture = Fixture("a", "b")
    fixture.count("a"), fixture.count("b")
    fixture.names.clear()
    fixture.slots.review()
    fixture.now = GONE_SECONDS - 1
    fixture.names.add("b")
    fixture.slots.review()
    assert fixture.series() == ({"a", "b"}, {"a", "b"})  # not yet
    fixture.now = GONE_SECONDS
    fixture.names.clear()
    fixture.slots.review()
    assert fixture.series() == ({"b"}, {"b"})  # which came back in between
    assert fixture.count("a") == OTHER


def test_name_that_is_gone_is_counted_by_name_until_its_place_is_taken() -> None:
    """The last answers of a model that was removed."""
    fixture = Fixture("a")
    fixture.count("a")
    fixture.names.clear()
    fixture.slots.review()
    assert fixture.count("a") == "a"
