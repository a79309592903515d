"""Makes the usage record of a charge."""

from aibrix_extproc.core.access.usage import MAX_TEXT, UsageRecord
from aibrix_extproc.core.exchange.records import Charge, Times
from aibrix_extproc.core.openai.wire.usage import Usage

_NO_USAGE = Usage()
_NO_TIMES = Times(None, None, None)


def usage_record(charge: Charge) -> UsageRecord:
    """The record of one exchange."""
    usage, times = charge.usage or _NO_USAGE, charge.times or _NO_TIMES
    return UsageRecord(
        id=charge.exchange_id,
        wall_at=charge.wall_placed_at,
        request_id=charge.request_id[:MAX_TEXT],
        caller=charge.caller[:MAX_TEXT],
        key_id=charge.key_id[:MAX_TEXT],
        model=charge.model[:MAX_TEXT],
        operation=charge.operation,
        status=charge.status,
        finish="" if charge.end is None else charge.end.value,
        batch_id=charge.batch_id,
        input_tokens=usage.input_tokens,
        cached_tokens=usage.cached_tokens,
        output_tokens=usage.output_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        audio_seconds=charge.audio_seconds,
        duration_ms=_milliseconds(times.total_seconds),
        first_byte_ms=_milliseconds(times.first_byte_seconds),
        estimated=bool(charge.unmetered),
    )


def _milliseconds(seconds: float | None) -> int:
    return 0 if seconds is None else max(round(seconds * 1000), 0)
