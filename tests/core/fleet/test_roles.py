from typing import Any

import pytest

from aibrix_extproc.core.fleet.model import Health, Snapshot
from aibrix_extproc.core.fleet.roles import EngineRole, role_of, role_set_of
from aibrix_extproc.doctor.role_checks import roles
from tests.build import MODEL, a_snapshot, an_endpoint

P, D, B = EngineRole.PREFILL, EngineRole.DECODE, EngineRole.BOTH


@pytest.mark.parametrize(
    ("labels", "role"),
    [
        ({}, B),
        ({"role-name": "prefill"}, P),
        ({"role-name": "decode"}, D),
        ({"role-name": "worker"}, B),
        ({"llm-d.ai/role": "prefill"}, P),
        ({"llm-d.ai/role": "encode-prefill-decode"}, B),
        ({"llm-d.ai/role": "both", "role-name": "prefill"}, B),
    ],
)
def test_labels_of_aibrix_and_llm_d_name_roles(labels: dict[str, str], role: EngineRole) -> None:
    assert role_of(labels) == (role, "")


def test_an_unknown_role_of_llm_d_is_none_and_is_said() -> None:
    role, wrong = role_of({"llm-d.ai/role": "prefil"})
    assert role is B
    assert "'prefil'" in wrong
    assert role_set_of({"roleset-name": "set-1"}) == "set-1"


def numbers(fleet: Snapshot) -> tuple[list[str], list[str]]:
    ready, prefill = fleet.ready_by_model[MODEL], fleet.prefill_by_model.get(MODEL) or ()
    return [one.identity[-1] for one in ready], [one.identity[-1] for one in prefill]


def test_prefill_engines_get_no_requests_of_clients_where_there_are_others() -> None:
    prefill, decode = an_endpoint(1, role=P), an_endpoint(2, role=D)
    both = an_endpoint(3)
    assert numbers(a_snapshot(prefill, decode, both)) == (["2", "3"], ["1"])
    assert numbers(a_snapshot(prefill)) == (["1"], [])
    assert numbers(a_snapshot(decode, both)) == (["2", "3"], [])


def test_a_decode_engine_that_is_not_ready_does_not_make_its_prefill_engine_answer() -> None:
    fleet = a_snapshot(an_endpoint(1, role=P), an_endpoint(2, role=D, health=Health.UNREACHABLE))
    assert numbers(fleet) == ([], ["1"])


@pytest.mark.parametrize("changes", [{"health": Health.SILENT}, {"cordon": "maintenance"}])
def test_prefill_engines_that_may_not_be_picked_compute_no_prompts(changes: dict[str, Any]) -> None:
    assert numbers(a_snapshot(an_endpoint(1, role=P, **changes), an_endpoint(2, role=D))) == (["2"], [])


def an_engine(role: str, name: str = "", model: str = "m") -> dict[str, object]:
    return {"role": role, "role_set": name, "models": [model], "health": "ready"}


@pytest.mark.parametrize(
    ("engines", "lacks"),
    [
        ([an_engine("both"), an_engine("decode")], []),
        ([an_engine("prefill", "a"), an_engine("decode", "a")], []),
        ([an_engine("prefill", "a"), an_engine("both", "a")], []),
        (
            [an_engine("prefill", "a"), an_engine("decode", "b")],
            ["role set a: it has prefill", "role set b: it has no"],
        ),
        ([an_engine("prefill")], ["engines without a role set: it has prefill"]),
        ([an_engine("prefill", "a"), an_engine("decode", "a"), an_engine("both", "", "other")], []),
    ],
)
def test_doctor_finds_role_sets_that_lack_a_half(engines: list[dict[str, object]], lacks: list[str]) -> None:
    found = [one.notice for one in roles([{"endpoints": engines}, {"endpoints": engines}])]
    assert len(found) == len(lacks)
    assert all(notice.startswith(lack) for notice, lack in zip(found, lacks, strict=True))
