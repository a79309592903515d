"""Records of LiteLLM and AIBrix as callers, keys and limits of ours, and what of them is lost."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from aibrix_extproc.adapters.keyfile.parse import parse_name
from aibrix_extproc.core.access.holders import digest_of
from aibrix_extproc.core.access.imports import from_aibrix, from_litellm, lines
from aibrix_extproc.core.access.limits.records import parse_record

HASH = digest_of("sk-1").hex()
FULL = {
    "token": HASH, "key_name": "sk-...abcd", "key_alias": "laptop", "spend": 1.5, "expires": "2027-01-01T00:00:00Z",
    "models": ["gpt-x", "chat-*"], "team_id": "team a", "user_id": "u-1", "blocked": True, "tpm_limit": 1000,
    "rpm_limit": 10,
    "max_parallel_requests": 3, "max_budget": 20.0, "soft_budget": 15, "budget_duration": "7d", "aliases": {"a": "b"},
    "model_max_budget": {"m": 1},
}  # fmt: skip


def test_a_full_record_of_litellm() -> None:
    plan = from_litellm([FULL])
    assert plan.callers == [{"name": "team-a", "note": "from LiteLLM", "models": ["chat-*", "gpt-x"]}]
    assert plan.keys == [
        {
            "caller": "team-a", "hash": f"sha256:{HASH}", "note": "laptop", "disabled": True,
            "expires": "2027-01-01T00:00:00Z",
        }
    ]  # fmt: skip
    (limit,) = plan.limits
    assert limit == {
        "key": f"k_{HASH[:16]}",
        "limits": {
            "requests_per_minute": 10, "tokens_per_minute": 1000, "concurrent_requests": 3, "budget_per_week": 20.0,
        },
        "soft_limits": {"budget_per_week": 15},
    }  # fmt: skip
    assert parse_record(limit)
    assert [one.partition(": ")[2].split()[0] for one in plan.warnings] == ["aliases", "what", "budgets"]
    assert len(list(lines(plan))) == 6


def test_large_limits_are_shown_as_people_write_them() -> None:
    plan = from_litellm([{"token": HASH, "tpm_limit": 2_500_000, "max_budget": 0.5, "budget_duration": "1d"}])
    assert f"limit of key k_{HASH[:16]}: tokens_per_minute 2,500,000, budget_per_day 0.5" in lines(plan)


def test_keys_of_one_team_with_other_models_get_another_caller() -> None:
    rows = [
        {"token": digest_of(str(number)).hex(), "team_id": "t", "models": models}
        for number, models in enumerate((["a"], ["b"], ["a"], ["all-proxy-models"], [], ["all-team-models", "a"]))
    ]
    plan = from_litellm(rows)
    assert [one["caller"] for one in plan.keys] == ["t", "t-2", "t", "t-3", "t-3", "t-3"]
    assert [one.get("models") for one in plan.callers] == [["a"], ["b"], None]
    assert "team" in plan.warnings[0]


def test_a_record_without_a_hash_is_left_out_and_said() -> None:
    plan = from_litellm([{"token": "sk-plain"}, {}, {"token": HASH, "rpm_limit": None}])
    assert [one["caller"] for one in plan.keys] == [f"litellm-{HASH[:8]}"]
    assert not plan.limits
    assert [one.partition(":")[0] for one in plan.warnings] == ["record 1", "record 2"]
    assert "sk-plain" not in str(plan.warnings)


def test_users_of_aibrix_have_limits_and_no_keys() -> None:
    plan = from_aibrix([{"name": "ann", "rpm": 10, "tpm": 0}, {"name": "bob"}, {"rpm": 1}])
    assert [one["name"] for one in plan.callers] == ["ann", "bob"]
    assert plan.limits == [{"caller": "ann", "limits": {"requests_per_minute": 10}}]
    assert not plan.keys
    assert len(plan.warnings) == 1


values: st.SearchStrategy[Any] = st.none() | st.integers() | st.text() | st.lists(st.text(), max_size=2) | st.booleans()


OTHERS = {name: values for name in FULL if name != "token"}


@given(st.fixed_dictionaries({"token": st.just(HASH), "name": values}, optional=OTHERS))
def test_whatever_records_say_names_and_limits_are_valid_or_left_out(row: dict[str, Any]) -> None:
    for plan in (from_litellm([row]), from_aibrix([row])):
        for caller in plan.callers:
            assert parse_name(caller["name"])
        assert all(isinstance(line, str) for line in lines(plan))
