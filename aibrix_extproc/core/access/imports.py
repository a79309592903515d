"""Turns records of other gateways into callers, keys and limits of ours. Keys come as hashes.

LiteLLM: rows of its table of verification tokens, whose `token` is the SHA-256 of the key. AIBrix: its users, which
have limits and no keys.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

_NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9._@:/+-]+")
_RESERVED: Final = re.compile(r"anyone|local-admin|key-[0-9]+")
_HASH: Final = re.compile(r"[0-9a-f]{64}")
_ALL_MODELS: Final = frozenset({"all-proxy-models", "*"})
_TEAM_MODELS: Final = "all-team-models"
_PERIODS: Final[Mapping[str, str]] = MappingProxyType(
    {"1d": "day", "24h": "day", "7d": "week", "1w": "week", "30d": "month", "1mo": "month"}
)
MAX_NAME: Final = 64
KEY_ID_CHARACTERS: Final = 16

# Field of LiteLLM -> limit of ours.
_LIMITS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "rpm_limit": "requests_per_minute",
        "tpm_limit": "tokens_per_minute",
        "tpd_limit": "tokens_per_day",
        "max_parallel_requests": "concurrent_requests",
    }
)


@dataclass(frozen=True, slots=True)
class ImportPlan:
    """Bodies for the admin API, and what is lost, as sentences."""

    callers: list[dict[str, Any]] = field(default_factory=list)
    keys: list[dict[str, Any]] = field(default_factory=list)
    limits: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def from_litellm(rows: Iterable[Mapping[str, Any]]) -> ImportPlan:
    """Keys with their callers: the team, else the user, else the key's alias. Callers differ where their models do."""
    plan = ImportPlan()
    names: dict[tuple[str, tuple[str, ...] | None], str] = {}
    for number, row in enumerate(rows, 1):
        digest = str(row.get("token") or "")
        if not _HASH.fullmatch(digest):
            plan.warnings.append(f"record {number}: `token` is no SHA-256, so the key cannot be taken over")
            continue
        owner = _name(row.get("team_id") or row.get("user_id") or row.get("key_alias") or f"litellm-{digest[:8]}")
        models = _models(row, f"record {number}", plan.warnings)
        name = names.get((owner, models))
        if name is None:
            same = sum(one == owner for one, _ in names)
            name = names[owner, models] = owner if not same else f"{owner[: MAX_NAME - 4]}-{same + 1}"
            plan.callers.append({"name": name, "note": "from LiteLLM"} | ({"models": list(models)} if models else {}))
        plan.keys.append(_key(row, name, digest, f"record {number}", plan.warnings))
        limits = _limits(row, f"record {number}", plan.warnings)
        if limits:
            plan.limits.append({"key": f"k_{digest[:KEY_ID_CHARACTERS]}"} | limits)
    return plan


def from_aibrix(rows: Iterable[Mapping[str, Any]]) -> ImportPlan:
    """Users as callers with limits. AIBrix has no keys: make some for them."""
    plan = ImportPlan()
    for number, row in enumerate(rows, 1):
        given = row.get("name")
        if not isinstance(given, str) or not given:
            plan.warnings.append(f"record {number}: no name")
            continue
        name = _name(given)
        plan.callers.append({"name": name, "note": "from AIBrix"})
        limits = {
            ours: row[theirs]
            for theirs, ours in (("rpm", "requests_per_minute"), ("tpm", "tokens_per_minute"))
            if _is_number(row.get(theirs))
        }
        if limits:
            plan.limits.append({"caller": name, "limits": limits})
    return plan


def _name(text: object) -> str:
    found = _NOT_IN_NAMES.sub("-", str(text)).strip("-._@:/+")[:MAX_NAME]
    usable = found and found[0].isalnum() and not _RESERVED.fullmatch(found)
    return found if usable else f"imported-{found}"[:MAX_NAME]


def _models(row: Mapping[str, Any], what: str, warnings: list[str]) -> tuple[str, ...] | None:
    listed = row.get("models")
    given = [str(one) for one in listed if one] if isinstance(listed, list) else []
    if _TEAM_MODELS in given:
        warnings.append(f"{what}: the models of its team are not in the record; the caller may use all")
    if row.get("aliases"):
        warnings.append(f"{what}: aliases of models are left out")
    named = tuple(sorted(set(given) - _ALL_MODELS - {_TEAM_MODELS}))
    return named if named and len(named) == len(set(given)) else None


def _key(row: Mapping[str, Any], caller: str, digest: str, what: str, warnings: list[str]) -> dict[str, Any]:
    key: dict[str, Any] = {"caller": caller, "hash": f"sha256:{digest}"}
    note = str(row.get("key_alias") or row.get("key_name") or "")
    if note:
        key["note"] = "".join(char for char in note if char.isprintable())[:256]
    if row.get("blocked"):
        key["disabled"] = True
    if row.get("expires"):
        key["expires"] = str(row["expires"])  # a time, which the caller of this function reads
    if row.get("spend"):
        warnings.append(f"{what}: what it has spent ({row['spend']}) is left out: budgets begin anew")
    return key


def _limits(row: Mapping[str, Any], what: str, warnings: list[str]) -> dict[str, Any]:
    hard = {ours: row[theirs] for theirs, ours in _LIMITS.items() if _is_number(row.get(theirs))}
    soft: dict[str, Any] = {}
    for theirs, into in (("max_budget", hard), ("soft_budget", soft)):
        if _is_number(row.get(theirs)):
            period = _PERIODS.get(str(row.get("budget_duration") or "30d"))
            if period is None:
                warnings.append(f"{what}: a budget for {row['budget_duration']} is taken for a month")
            into[f"budget_per_{period or 'month'}"] = row[theirs]
    if row.get("model_max_budget"):
        warnings.append(f"{what}: budgets for single models are left out")
    return ({"limits": hard} if hard else {}) | ({"soft_limits": soft} if soft else {})


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def lines(plan: ImportPlan) -> Iterator[str]:
    """The plan for people."""
    for caller in plan.callers:
        yield f"caller {caller['name']}: models {', '.join(caller.get('models', ())) or 'all'}"
    for key in plan.keys:
        state = " (disabled)" if key.get("disabled") else ""
        yield f"key k_{key['hash'][7 : 7 + KEY_ID_CHARACTERS]} of {key['caller']}{state}"
    for limit in plan.limits:
        soft = {f"soft {name}": amount for name, amount in limit.get("soft_limits", {}).items()}
        amounts = limit.get("limits", {}) | soft
        subject = f"key {limit['key']}" if "key" in limit else f"caller {limit['caller']}"
        yield f"limit of {subject}: " + ", ".join(f"{name} {amount:,.12g}" for name, amount in amounts.items())
    for warning in plan.warnings:
        yield f"! {warning}"
