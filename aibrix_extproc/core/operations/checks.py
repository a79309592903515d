"""Verifies a call by the engine's own word: the question that is asked, and the meaning of its answer."""

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from aibrix_extproc.core.operations.recipes import Call, Check
from aibrix_extproc.core.operations.records import Answer
from aibrix_extproc.core.operations.runs import Checked

# The operation that is asked for each check. In vLLM 0.32 and 0.33 both flags are true after a sleep and after a pause;
# /resume leaves `is_sleeping` as it is.
QUESTIONS: Final[Mapping[Check, str]] = MappingProxyType(
    {
        Check.ASLEEP: "is_sleeping",
        Check.AWAKE: "is_sleeping",
        Check.PAUSED: "is_paused",
        Check.RESUMED: "is_paused",
        Check.VERSION: "weight_info",
    }
)
_WANTED: Final[Mapping[Check, tuple[str, bool]]] = MappingProxyType(
    {
        Check.ASLEEP: ("is_sleeping", True),
        Check.AWAKE: ("is_sleeping", False),
        Check.PAUSED: ("is_paused", True),
        Check.RESUMED: ("is_paused", False),
        Check.SUCCESS: ("success", True),
    }
)


def judged(call: Call, answer: Answer | None, *, unsure: bool) -> Checked:
    """The check of a call without a question: by its answer, which nobody has if the caller died."""
    if unsure or answer is None:
        return Checked(False, "nobody knows whether it was made")
    if call.check is Check.SUCCESS:
        return verdict(call, answer)
    return Checked(True)


def verdict(call: Call, answer: Answer) -> Checked:
    """Whether the engine's answer to the question proves the call."""
    if not answer.ok:
        return Checked(False, answer.described)
    try:
        found = json.loads(answer.body)
    except (ValueError, RecursionError):
        found = None
    name, wanted = _wanted(call)
    value = found.get(name) if isinstance(found, dict) else None
    if value == wanted and type(value) is type(wanted):
        return Checked(True)
    return Checked(False, f"it answers {answer.body[:200]}")


def _wanted(call: Call) -> tuple[str, Any]:
    if call.check is Check.VERSION:
        return "weight_version", call.params.get("weight_version") or call.params.get("new_version")
    return _WANTED[call.check]
