"""Makes the usage record of a charge."""

from typing import Final

from aibrix_extproc.core.access.usage import MAX_TEXT, UsageRecord
from aibrix_extproc.core.exchange.records import Charge, StreamEnd, Times
from aibrix_extproc.core.openai.contract.operations import shown
from aibrix_extproc.core.openai.wire.estimates import InputRatios, streamed_tokens
from aibrix_extproc.core.openai.wire.usage import Usage

# Values of `unmetered`: how a stream broke off.
ESTIMATED: Final = frozenset({StreamEnd.CUT.value, StreamEnd.LEFT.value, StreamEnd.ERROR.value})
_NO_USAGE = Usage()
_NO_TIMES = Times(None, None, None)


def usage_record(charge: Charge, ratios: InputRatios) -> UsageRecord:
    """The record of one exchange; the tokens of a stream that broke off before its usage are estimated."""
    is_estimated = charge.unmetered in ESTIMATED
    usage = _estimated(charge, ratios) if is_estimated else charge.usage or _NO_USAGE
    times = charge.times or _NO_TIMES
    return UsageRecord(
        id=_id(charge),
        wall_at=charge.wall_placed_at,
        request_id=_text(charge.request_id),
        caller=_text(charge.caller),
        key_id=_text(charge.key_id),
        model=_text(charge.model),
        operation=charge.operation,
        status=charge.status,
        finish="" if charge.end is None else charge.end.value,
        batch_id=_text(charge.batch_id),
        input_tokens=usage.input_tokens,
        cached_tokens=usage.cached_tokens,
        output_tokens=usage.output_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        audio_seconds=charge.audio_seconds,
        duration_ms=_milliseconds(times.total_seconds),
        first_byte_ms=_milliseconds(times.first_byte_seconds),
        estimated=is_estimated,
    )


def _estimated(charge: Charge, ratios: InputRatios) -> Usage:
    return Usage(ratios.tokens(charge.model, charge.bytes_in), streamed_tokens(charge.events))


def _id(charge: Charge) -> str:
    """The exchange, or the response if one is paid for: it is paid for once, however often it is retrieved."""
    return charge.response_id if charge.response_id and charge.usage is not None else charge.exchange_id


def _text(given: str) -> str:
    """As every database takes it."""
    return given if len(given) <= MAX_TEXT and given.isprintable() else shown(given, MAX_TEXT - 3)


def _milliseconds(seconds: float | None) -> int:
    return 0 if seconds is None else max(round(seconds * 1000), 0)
