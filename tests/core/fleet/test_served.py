"""What is served of an engine whose list and whose labels may say different things."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibrix_extproc.core.fleet.model import Endpoint, Health, ServedModel, Snapshot
from aibrix_extproc.core.fleet.modelconfig import parse_config
from aibrix_extproc.core.fleet.reduce import Change, Changed, Fleet, Listed, Observed
from aibrix_extproc.core.fleet.served import CHECK_NAMES, served

QWEN = ServedModel("Qwen/Qwen3-8B", max_model_len=32_768)
ALIAS = ServedModel("qwen", max_model_len=32_768)
SQL = ServedModel("sql-lora", parent="Qwen/Qwen3-8B")
LAW = ServedModel("law-lora", parent="Qwen/Qwen3-8B")
LISTED = (QWEN, ALIAS, SQL, LAW)


def labelled(*names: str, identity: str = "e1", engine: str = "vllm", config: str | None = None) -> Endpoint:
    models = tuple(ServedModel(name) for name in names)
    parsed = None if config is None else parse_config(config)
    group = names[0] if names else ""
    return Endpoint(
        identity, f"{identity}:8000", name=identity, engine=engine, group=group, models=models, config=parsed,
        health=Health.READY,
    )  # fmt: skip


def listing(*models: ServedModel, identity: str = "e1") -> Observed:
    return Observed(identity, Health.READY, models=models)


def snapshot(*changes: Change) -> Snapshot:
    fleet = Fleet(["kubernetes"])
    for change in changes:
        fleet.apply(change)
    return fleet.snapshot


def test_pod_with_a_label_serves_what_its_engine_lists() -> None:
    found = snapshot(Listed("kubernetes", (labelled("qwen3-8b"),)), listing(*LISTED))
    assert set(found.ready_by_model) == {"Qwen/Qwen3-8B", "qwen", "sql-lora", "law-lora"}
    assert found.models["qwen"].max_model_len == 32_768
    assert found.models["sql-lora"].parent == "Qwen/Qwen3-8B"
    assert "'qwen3-8b'" in found.endpoints[0].warning
    assert "'Qwen/Qwen3-8B'" in found.endpoints[0].warning


def test_label_stands_in_until_the_engine_is_asked_and_while_it_cannot_be() -> None:
    given = Listed("kubernetes", (labelled("qwen3-8b"),))
    for changes in ((given,), (given, Observed("e1", Health.UNREACHABLE, detail="refused"))):
        found = snapshot(*changes)
        assert set(found.by_model) == {"qwen3-8b"}
        assert found.endpoints[0].warning == ""


@pytest.mark.parametrize("name", ["Qwen/Qwen3-8B", "qwen", "sql-lora"])
def test_label_that_the_engine_lists_is_served_as_the_engine_says_without_a_remark(name: str) -> None:
    found = snapshot(Listed("kubernetes", (labelled(name),)), listing(*LISTED))
    assert found.endpoints[0].models == LISTED
    assert found.endpoints[0].warning == ""


def test_label_of_an_engine_without_a_list_is_served() -> None:
    assert set(snapshot(Listed("kubernetes", (labelled("foo"),)), listing()).ready_by_model) == {"foo"}


@pytest.mark.parametrize("engine", ["sglang", "trtllm", "xllm", "xdit"])
def test_label_of_an_engine_that_takes_any_name_is_an_alias(engine: str) -> None:
    found = snapshot(Listed("kubernetes", (labelled("foo", engine=engine),)), listing(QWEN))
    assert set(found.ready_by_model) == {"foo", "Qwen/Qwen3-8B"}
    assert found.endpoints[0].warning == ""


def test_adapter_that_was_named_after_the_engine_was_asked_is_served_until_it_is_asked_again() -> None:
    named = labelled("qwen", "new-lora")
    changes: list[Change] = [Listed("kubernetes", (labelled("qwen"),)), listing(*LISTED), Changed("kubernetes", named)]
    assert "new-lora" in snapshot(*changes).ready_by_model
    judged = snapshot(*changes, listing(*LISTED))
    assert "new-lora" not in judged.by_model
    assert "'new-lora'" in judged.endpoints[0].warning
    assert "new-lora" in snapshot(*changes, listing(*LISTED, ServedModel("new-lora", "qwen"))).ready_by_model


def test_pods_of_one_label_and_other_models_share_their_configuration() -> None:
    config = '{"defaultProfile": "a", "profiles": {"a": {"routingStrategy": "random"}}}'
    found = snapshot(
        Listed("kubernetes", (labelled("foo", config=config), labelled("foo", identity="e2"))),
        listing(QWEN),
        listing(ALIAS, identity="e2"),
    )
    assert set(found.configs) == {"Qwen/Qwen3-8B", "qwen"}


def test_length_of_a_model_is_known_as_soon_as_one_engine_has_told_it() -> None:
    found = snapshot(
        Listed("kubernetes", (labelled("qwen", identity="e1"), labelled("qwen", identity="e2"))),
        listing(ALIAS, identity="e2"),
    )
    assert found.models["qwen"].max_model_len == 32_768


def test_remark_on_many_and_long_names_stays_short() -> None:
    many = tuple(ServedModel(f"{number}-{'x' * 250}") for number in range(1000))
    assert len(served(labelled("foo"), many, {"foo"})[1]) < 1000


NAMES = st.sampled_from(["a", "b", "c/d", "e"])
MODELS = st.lists(st.builds(ServedModel, NAMES, st.none() | NAMES, st.none() | st.just(4096)), max_size=4).map(tuple)
ENGINES = st.sampled_from(["vllm", "vllm-omni", "sglang", "xdit"])


@given(given=MODELS, listed=MODELS, judged=st.frozensets(NAMES), engine=ENGINES, selects=st.booleans())
def test_an_engine_that_checks_names_is_never_asked_for_one_that_it_refuses(
    given: tuple[ServedModel, ...],
    listed: tuple[ServedModel, ...],
    judged: frozenset[str],
    engine: str,
    selects: bool,
) -> None:
    endpoint = replace(labelled(engine=engine), models=given, selects=selects)
    models, warning = served(endpoint, listed, judged)
    found, names = {one.id for one in models}, {one.id for one in given}
    known = {one.id for one in listed}
    assert len(found) == len(models)
    if not listed:
        assert found == names
        return
    if not selects:
        assert known <= found
    if engine in CHECK_NAMES:
        assert found <= known | (names - judged)
        assert bool(warning) == bool((names & judged) - known)
    else:
        assert names <= found
        assert warning == ""
    first = {one.id: one for one in reversed(listed)}
    assert all(one == first[one.id] or selects for one in models if one.id in first)


@given(st.lists(st.tuples(MODELS, MODELS), max_size=5))
def test_order_of_list_and_label_makes_no_difference_once_the_engine_has_listed_again(
    steps: Sequence[tuple[tuple[ServedModel, ...], tuple[ServedModel, ...]]],
) -> None:
    last: tuple[tuple[ServedModel, ...], tuple[ServedModel, ...]] = ((), ())
    changes: list[Change] = [Listed("kubernetes", (labelled(),))]
    for models, listed in steps:
        last = (models, listed)
        changes += [listing(*listed), Changed("kubernetes", replace(labelled(), models=models)), listing(*listed)]
    direct = snapshot(Listed("kubernetes", (replace(labelled(), models=last[0]),)), listing(*last[1]))
    assert snapshot(*changes).endpoints == direct.endpoints
