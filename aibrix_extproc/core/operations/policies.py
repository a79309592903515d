"""Policies of sleep and wake for the engines of a model: the records of the control section `models`."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from aibrix_extproc.core.openai.contract.errors import Problem
from aibrix_extproc.core.operations.field_checks import (
    checked_flag,
    checked_name,
    checked_number,
    invalid,
    unknown_field,
)

MAX_NAME_CHARACTERS: Final = 256
MAX_GROUP_CHARACTERS: Final = 64
SLEEP_LEVELS: Final = (1, 2)


class ModelPolicy(msgspec.Struct, frozen=True, omit_defaults=True):
    """The policy of one model. Its engines are those that serve the model as a base model. Times are seconds."""

    model: str
    wake_on_request: bool = False  # a request wakes the engines if all of them sleep
    idle_sleep_seconds: float | None = None  # an engine without a request for so long is put to sleep; None: never
    sleep_level: int = 1  # vLLM's: 1 keeps the weights in the host's memory, 2 drops them
    min_awake: int = 0  # so many engines are not put to sleep for idleness
    busy_in_flight: int = 16  # another engine is woken when each one awake has so many requests
    group: str = ""  # of the models of one group only one is awake at any time
    hold_seconds: float = 5.0  # so long a model of a group stays awake before another one gets its place
    drain_seconds: float = 60.0  # so long requests that run may go on before `/sleep` waits for them itself


_FIELDS: Final = frozenset(ModelPolicy.__struct_fields__)


def read_policy(model: str, fields: Mapping[str, Any]) -> ModelPolicy | Problem:
    """The policy of that model, or the refusal of what is wrong with it."""
    problem = checked_name("model", model, MAX_NAME_CHARACTERS) or unknown_field(fields, _FIELDS)
    if problem is None and fields.get("model", model) != model:
        problem = invalid("model", "must be the model in the URL, or be left out")
    problem = (
        problem
        or checked_flag(fields, "wake_on_request")
        or checked_number(fields, "idle_sleep_seconds", 1, 30 * 86_400)
        or checked_number(fields, "sleep_level", SLEEP_LEVELS[0], SLEEP_LEVELS[-1], whole=True)
        or checked_number(fields, "min_awake", 0, 10_000, whole=True)
        or checked_number(fields, "busy_in_flight", 1, 1_000_000, whole=True)
        or checked_number(fields, "hold_seconds", 0, 3600)
        or checked_number(fields, "drain_seconds", 0, 86_400)
    )
    group = fields.get("group")
    if problem is None and group not in (None, ""):
        problem = checked_name("group", group, MAX_GROUP_CHARACTERS)
    if problem is None and group and fields.get("min_awake"):
        problem = invalid("min_awake", "must be 0 for a model of a group, which another one may replace")
    if problem is not None:
        return problem
    given = {key: value for key, value in fields.items() if value is not None and key != "model"}
    return ModelPolicy(model, **given)
