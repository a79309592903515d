"""Roles of engines: role sets in which one half of the requests has nobody to compute it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from aibrix_extproc.doctor.finding import Finding, Severity
from aibrix_extproc.doctor.objects import at, listed

MAX_SETS: Final = 50  # of one report
_FIX: Final = "label both halves of the set: role-name (llm-d.ai/role) prefill and decode, and one roleset-name"


def roles(fleets: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    """Findings about roles that are missing in the fleets that processors see; each once."""
    sets: dict[tuple[str, str], set[str]] = {}
    for fleet in fleets:
        for one in listed(fleet, "endpoints"):
            if at(one, "health") == "draining":
                continue
            for model in at(one, "models") or ():
                sets.setdefault((str(model), str(at(one, "role_set") or "")), set()).add(str(at(one, "role") or "both"))
    disaggregated = {model for (model, _), found in sets.items() if "prefill" in found}
    lacks = [
        (model, name, lack)
        for (model, name), found in sorted(sets.items())
        if model in disaggregated and (lack := _lack(found))
    ]
    for model, name, lack in lacks[:MAX_SETS]:
        shown = f"role set {name}" if name else "engines without a role set"
        yield Finding(Severity.WARNING, f"model {model}", "metadata.labels", f"{shown}: {lack}", _FIX)


def _lack(found: set[str]) -> str:
    if found == {"prefill"}:
        return "it has prefill engines only: no answer comes from them unless the model has no other engines at all"
    if "prefill" not in found:
        return "it has no prefill engine: its decode engines compute prompts themselves"
    return ""
