"""The role of an engine where prefill and decode are disaggregated, as the labels of AIBrix and of llm-d name it."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final


class EngineRole(StrEnum):
    """Which half of a request an engine computes."""

    BOTH = "both"  # also of engines without any role
    PREFILL = "prefill"  # the prompt, for a decode engine that takes its KV cache over
    DECODE = "decode"  # the answer; and a prompt that no prefill engine computes


LLM_D_ROLE: Final = "llm-d.ai/role"
AIBRIX_ROLE: Final = "role-name"
AIBRIX_ROLE_SET: Final = "roleset-name"
ENCODER: Final = "encode"

# What llm-d's label says. Encoding is a part of the prompt, so engines that also do it have the role of the rest.
_LLM_D: Final[Mapping[str, EngineRole]] = MappingProxyType(
    {
        "prefill": EngineRole.PREFILL,
        "encode-prefill": EngineRole.PREFILL,
        "decode": EngineRole.DECODE,
        "both": EngineRole.BOTH,
        "prefill-decode": EngineRole.BOTH,
        "encode-prefill-decode": EngineRole.BOTH,
    }
)


def role_of(labels: Mapping[str, str]) -> tuple[EngineRole, str]:
    """The role, and what is wrong with the label that names it; empty if nothing is.

    A role of AIBrix may have any name: those that are neither prefill nor decode are no roles to us.
    """
    named = labels.get(LLM_D_ROLE)
    if named is not None:
        role = _LLM_D.get(named)
        return (role, "") if role is not None else (EngineRole.BOTH, f"{LLM_D_ROLE}: unknown role {named[:64]!r}")
    try:
        return EngineRole(labels.get(AIBRIX_ROLE, "")), ""
    except ValueError:
        return EngineRole.BOTH, ""


def role_set_of(labels: Mapping[str, str]) -> str:
    """The name of the role set, whose engines can take each other's KV cache over; empty for the one without a name."""
    return labels.get(AIBRIX_ROLE_SET, "")
