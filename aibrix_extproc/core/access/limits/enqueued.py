"""The limit on tokens that batches have enqueued, which the metadata service counts in its database."""

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from aibrix_extproc.core.access.limits.records import EACH, LimitRecord, with_shares

ENQUEUED: Final = "batch_enqueued_tokens"


class EnqueuedLimit(msgspec.Struct, frozen=True):
    """The tokens that batches of a caller, of a model, or of both may have enqueued together; None: of all of them."""

    caller: str | None
    model: str | None
    tokens: int


def enqueued_limits(
    records: Iterable[LimitRecord], caller: str, model: str, *, default: int = 0
) -> tuple[EnqueuedLimit, ...]:
    """The limits for a batch of this caller and model. `default`: of a caller for a model, 0 for none."""
    found: dict[tuple[bool, bool], dict[int, float | None]] = {}
    for record in with_shares(records):
        names = (record.caller, caller), (record.model, model)
        if ENQUEUED in record.limits and all(given in (None, EACH, name) for given, name in names):
            form = record.caller is not None, record.model is not None
            exact = sum(given == name for given, name in names)
            found.setdefault(form, {})[exact] = record.limits[ENQUEUED]  # a name counts before `*`
    amounts: Mapping[tuple[bool, bool], float | None] = {form: of[max(of)] for form, of in found.items()}
    if default and (True, True) not in amounts:
        amounts = {**amounts, (True, True): default}
    return tuple(
        EnqueuedLimit(caller if of_caller else None, model if of_model else None, int(amount))
        for (of_caller, of_model), amount in sorted(amounts.items())
        if amount is not None
    )
