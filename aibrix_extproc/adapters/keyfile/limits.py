"""The fields of a caller and of a key that limit them."""

from collections.abc import Iterator, Mapping

from aibrix_extproc.config_files.nodes import Place
from aibrix_extproc.config_files.plain import fail_at, plain
from aibrix_extproc.core.access.limits.records import LimitFormatError, LimitRecord, parse_amounts

LIMIT_FIELDS = ("limits", "soft_limits")
CALLER_LIMIT_FIELDS = (*LIMIT_FIELDS, "model_limits")


def caller_limits(fields: Mapping[str, Place], caller: str) -> Iterator[LimitRecord]:
    """Of the caller with all its keys, and of each model that the caller uses."""
    limits, soft = (_amounts(fields, field) for field in LIMIT_FIELDS)
    if limits or soft:
        yield LimitRecord(f"caller={caller}", caller, limits=limits, soft_limits=soft)
    by_model = fields["model_limits"].fields() if "model_limits" in fields else {}
    for model in by_model:
        amounts = _amounts(by_model, model)
        yield LimitRecord(f"caller={caller},model={model}", caller, model=model, limits=amounts)


def key_limits(fields: Mapping[str, Place], key: str) -> Iterator[LimitRecord]:
    """Of one key."""
    limits, soft = (_amounts(fields, field) for field in LIMIT_FIELDS)
    if limits or soft:
        yield LimitRecord(f"key={key}", key=key, limits=limits, soft_limits=soft)


def _amounts(fields: Mapping[str, Place], field: str) -> dict[str, float | int | None]:
    if field not in fields:
        return {}
    try:
        return parse_amounts(plain(fields[field]), "")
    except LimitFormatError as error:
        fail_at(fields[field], error.field.lstrip("."), error.reason)
