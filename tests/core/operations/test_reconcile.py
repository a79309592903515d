"""Plans lead from what is loaded to what is desired, and change nothing else."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace as changed

from aibrix_extproc.core.operations.desired import ALL, DesiredAdapter
from aibrix_extproc.core.operations.reconcile import EngineSeen, Kind, Ours, Plan, Seen, Step, Verb, plan_of

SQL = DesiredAdapter("sql", "/adapters/sql", "llama")


def engines(*names: str, **fields: Any) -> tuple[EngineSeen, ...]:
    return tuple(EngineSeen(name, frozenset({"llama"}), fields.pop("loaded", {}), **fields) for name in names)


def with_loaded(engine: EngineSeen, **loaded: str | None) -> EngineSeen:
    return replace(engine, loaded={**engine.loaded, **loaded})


def after(seen: Seen, plan: Plan) -> Seen:
    """What is seen once every step of a plan has succeeded."""
    loaded = {engine.identity: dict(engine.loaded) for engine in seen.engines}
    ours = dict(seen.ours)
    for step in plan.steps:
        if step.verb in (Verb.LOAD, Verb.RELOAD):
            loaded[step.identity][step.adapter] = step.path
            ours[step.adapter, step.identity] = Ours(step.path, step.path)
        else:
            del loaded[step.identity][step.adapter]
            del ours[step.adapter, step.identity]
    return replace(seen, engines=tuple(replace(one, loaded=loaded[one.identity]) for one in seen.engines), ours=ours)


def settled(seen: Seen) -> Seen:
    for _ in range(4):
        plan = plan_of(seen)
        if not plan.steps:
            return seen
        seen = after(seen, plan)
    raise AssertionError(f"it never settles: {plan.steps}")


def holders(seen: Seen, name: str = "sql") -> set[str]:
    return {engine.identity for engine in seen.engines if name in engine.loaded}


def test_all_means_each_engine_of_the_base_model() -> None:
    other = EngineSeen("x", frozenset({"qwen"}), {})
    plan = plan_of(Seen((SQL,), (*engines("a", "b"), other), {}))
    assert plan.steps == (Step(Verb.LOAD, "sql", "a", "/adapters/sql"), Step(Verb.LOAD, "sql", "b", "/adapters/sql"))


def test_labels_choose_the_engines() -> None:
    one, two = engines("a", "b")
    one = replace(one, labels={"gpu": "h100", "zone": "1"})
    assert holders(settled(Seen((changed(SQL, placement={"gpu": "h100"}),), (one, two), {}))) == {"a"}


def test_a_base_model_that_nobody_serves_is_named() -> None:
    plan = plan_of(Seen((changed(SQL, base="nope"),), engines("a"), {}))
    assert [(one.kind, one.detail) for one in plan.drift] == [
        (Kind.TOO_FEW, "no usable engine serves the model 'nope'")
    ]


def test_an_engine_that_cannot_load_now_is_left_alone() -> None:
    one, two = engines("a", "b")
    seen = Seen((), (replace(with_loaded(one, sql="/adapters/sql"), usable=False), two), {("sql", "a"): Ours("/x")})
    assert plan_of(seen).steps == ()


def test_one_that_somebody_else_loaded_is_not_unloaded() -> None:
    one = with_loaded(engines("a")[0], plugin="/cache/plugin")
    plan = plan_of(Seen((), (one,), {}))
    assert (plan.steps, plan.drift) == ((), ())


def test_a_found_one_that_is_wanted_counts_as_a_replica() -> None:
    one, two = engines("a", "b")
    for first, second in ((one, with_loaded(two, sql="/adapters/sql")), (with_loaded(one, sql=None), two)):
        plan = plan_of(Seen((changed(SQL, replicas=1),), (first, second), {}))
        assert (plan.steps, plan.drift) == ((), ())


def test_a_found_one_beyond_the_replicas_is_reported_only() -> None:
    both = tuple(with_loaded(one, sql="/adapters/sql") for one in engines("a", "b"))
    plan = plan_of(Seen((changed(SQL, replicas=1),), both, {}))
    assert plan.steps == ()
    assert [one.kind for one in plan.drift] == [Kind.FOUND]


def test_ours_is_unloaded_when_its_record_is_gone() -> None:
    one = with_loaded(engines("a")[0], sql="/adapters/sql", hand="/hand")
    plan = plan_of(Seen((), (one,), {("sql", "a"): Ours("/adapters/sql")}))
    assert plan.steps == (Step(Verb.UNLOAD, "sql", "a"),)


def test_one_that_vanished_is_loaded_again() -> None:
    plan = plan_of(Seen((SQL,), engines("a"), {("sql", "a"): Ours("/adapters/sql")}))
    assert plan.steps == (Step(Verb.LOAD, "sql", "a", "/adapters/sql"),)
    assert [one.kind for one in plan.drift] == [Kind.MISSING]


@pytest.mark.parametrize(
    ("listed", "ours", "reloads"),
    [
        pytest.param("/old", None, True, id="by-hand-from-another-path"),
        pytest.param("/adapters/sql", None, False, id="by-hand-from-this-path"),
        pytest.param(None, None, False, id="engine-lists-no-path"),
        pytest.param("/old", Ours("/old", "/old"), True, id="record-has-a-new-path"),
        pytest.param("/cache/1", Ours("/adapters/sql", "/cache/1"), False, id="engine-resolved-the-path"),
        pytest.param("/cache/2", Ours("/adapters/sql", "/cache/1"), True, id="replaced-by-hand"),
    ],
)
def test_another_path_is_loaded_in_place(listed: str | None, ours: Ours | None, reloads: bool) -> None:
    one = with_loaded(engines("a")[0], sql=listed)
    plan = plan_of(Seen((SQL,), (one,), {} if ours is None else {("sql", "a"): ours}))
    assert plan.steps == ((Step(Verb.RELOAD, "sql", "a", "/adapters/sql"),) if reloads else ())


def test_the_name_of_a_base_model_is_never_loaded() -> None:
    plan = plan_of(Seen((DesiredAdapter("llama", "/a", "llama"),), engines("a"), {}))
    assert plan.steps == ()
    assert [one.kind for one in plan.drift] == [Kind.NAME_TAKEN]


def test_a_failing_engine_is_chosen_last() -> None:
    one = changed(SQL, replicas=1)
    first = plan_of(Seen((one,), engines("a", "b", "c"), {})).steps[0].identity
    again = plan_of(Seen((one,), engines("a", "b", "c"), {}, failing={("sql", first)})).steps[0].identity
    assert again != first
    assert plan_of(Seen((one,), engines("a"), {}, failing={("sql", "a")})).steps


def test_a_lazy_one_is_loaded_on_demand_and_evicted_before_others() -> None:
    lazy, late = changed(SQL, lazy=True), DesiredAdapter("late", "/l", "llama", lazy=True)
    eager = DesiredAdapter("eager", "/e", "llama")
    tight = engines("a", capacity=1)
    assert plan_of(Seen((lazy,), tight, {})).steps == ()
    seen = settled(Seen((lazy,), tight, {}, demanded={"sql": 1.0}))
    assert holders(seen) == {"a"}
    assert plan_of(replace(seen, demanded={})).steps == ()
    for other, demanded in ((eager, {"sql": 1.0}), (late, {"sql": 1.0, "late": 2.0})):
        plan = plan_of(replace(seen, desired=(lazy, other), demanded=demanded))
        assert [(step.verb, step.adapter) for step in plan.steps] == [(Verb.EVICT, "sql"), (Verb.LOAD, other.name)]


def test_a_pinned_one_keeps_its_room() -> None:
    pinned, eager = changed(SQL, pinned=True), DesiredAdapter("eager", "/e", "llama")
    seen = settled(Seen((eager, pinned), engines("a", capacity=1), {}))
    assert holders(seen) == {"a"}
    assert [one.kind for one in plan_of(seen).drift] == [Kind.NO_ROOM]


def test_what_others_loaded_takes_room() -> None:
    full = with_loaded(engines("a", capacity=1)[0], hand="/hand")
    assert plan_of(Seen((SQL,), (full,), {})).steps == ()


def test_a_plan_is_bounded() -> None:
    assert len(plan_of(Seen((SQL,), engines(*map(str, range(50))), {}), limit=7).steps) == 7


NAMES = st.sampled_from(["sql", "chat", "code"])
PATHS = st.sampled_from(["/1", "/2"])
DESIRED = st.builds(
    DesiredAdapter, NAMES, PATHS, st.sampled_from(["llama", "qwen"]), st.sampled_from([1, 2, 3, ALL]),
    st.sampled_from([{}, {"gpu": "h100"}]), st.booleans(), st.booleans(),
)  # fmt: skip
ENGINES = st.builds(
    EngineSeen, st.sampled_from("abcdef"), st.sampled_from([frozenset({"llama"}), frozenset({"qwen"})]),
    st.dictionaries(NAMES | st.just("hand"), st.none() | PATHS, max_size=4),
    st.sampled_from([{}, {"gpu": "h100"}]), st.booleans(), st.none() | st.integers(0, 3),
)  # fmt: skip


@st.composite
def worlds(draw: st.DrawFn) -> Seen:
    desired = draw(st.lists(DESIRED, max_size=3, unique_by=lambda one: one.name))
    found = draw(st.lists(ENGINES, max_size=6, unique_by=lambda one: one.identity))
    places = [(name, one.identity) for one in found for name in one.loaded]
    ours = draw(st.dictionaries(st.sampled_from(places), st.builds(Ours, PATHS, st.none() | PATHS))) if places else {}
    demanded = draw(st.dictionaries(NAMES, st.floats(0, 9), max_size=3))
    failing = draw(st.sets(st.tuples(NAMES, st.sampled_from("abcdef")), max_size=3))
    return Seen(tuple(desired), tuple(found), ours, demanded, failing)


@settings(max_examples=300)
@given(seen=worlds())
def test_any_fleet_settles_within_its_bounds(seen: Seen) -> None:
    end = settled(seen)
    before = {one.identity: one for one in seen.engines}
    names = {one.name for one in seen.desired}
    wanted = plan_of(end).wanted
    for engine in end.engines:
        was = before[engine.identity]
        # Others' adapters stay, and so does an engine that cannot be asked.
        assert all(name in engine.loaded for name in was.loaded if (name, engine.identity) not in seen.ours)
        assert engine.usable or engine.loaded == was.loaded
        if engine.usable:
            here = {name for name in engine.loaded if (name, engine.identity) in end.ours}
            assert all(engine.identity in wanted[name] for name in here)
            if engine.capacity is not None:
                others = sum(name not in names for name in was.loaded if (name, engine.identity) not in seen.ours)
                kept = {name for name in here if name not in was.loaded}
                assert not kept or len([n for n in wanted if engine.identity in wanted[n]]) + others <= engine.capacity
    for one in seen.desired:
        assert one.replicas == ALL or len(wanted.get(one.name, ())) <= one.replicas


@settings(max_examples=200)
@given(st.integers(2, 8), st.integers(1, 4), st.data())
def test_an_engine_that_leaves_moves_only_what_it_had(count: int, replicas: int, data: st.DataObject) -> None:
    names = [f"pod-{number}" for number in range(count)]
    seen = settled(Seen((changed(SQL, replicas=replicas),), engines(*names), {}))
    assert len(holders(seen)) == min(replicas, count)
    gone = data.draw(st.sampled_from(names))
    left = replace(seen, engines=tuple(one for one in seen.engines if one.identity != gone))
    moved = settled(replace(left, engines=(*left.engines, *engines("new"))))
    assert holders(moved) >= holders(seen) - {gone}
    assert len(holders(moved)) == min(replicas, count)
    difference = holders(moved) ^ holders(seen)
    assert difference <= {gone} | (holders(moved) - holders(seen))
    if gone not in holders(seen):
        assert not difference or replicas > count - 1


def test_adapters_spread_over_engines() -> None:
    many = tuple(DesiredAdapter(f"a{number}", "/a", "llama", 1) for number in range(300))
    plan = plan_of(Seen(many, engines("a", "b", "c"), {}), limit=1000)
    counts = [sum(step.identity == one for step in plan.steps) for one in "abc"]
    assert sum(counts) == 300
    assert min(counts) > 60
