"""Usage records: what each exchange cost, for the ledger. Sent by gateways in batches, one JSON array a line."""

from collections.abc import Iterable
from typing import Annotated, Final

import msgspec

MAX_TEXT: Final = 256  # characters; longer ones are cut
_Text = Annotated[str, msgspec.Meta(max_length=MAX_TEXT)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
_Seconds = Annotated[float, msgspec.Meta(ge=0, le=10_000_000.0)]


class UsageRecord(msgspec.Struct, frozen=True, gc=False, array_like=True, kw_only=True):
    """The cost of one exchange. A text that does not apply is empty; of tokens and times it is nought.

    `id` is that of the exchange: however often a record is sent, and by whichever replica, the ledger has it once.
    """

    id: _Text
    wall_at: _Count  # when the request was placed, in seconds since the epoch
    request_id: _Text
    caller: _Text
    key_id: _Text
    model: _Text
    operation: _Text
    status: Annotated[int, msgspec.Meta(ge=0, le=999)]  # that the client saw; 0 if it saw none
    finish: _Text  # how a stream ended, one of StreamEnd; empty for a whole answer
    batch_id: _Text
    input_tokens: _Count = 0  # with the cached ones
    cached_tokens: _Count = 0
    output_tokens: _Count = 0  # with the reasoning ones
    reasoning_tokens: _Count = 0
    audio_seconds: _Seconds = 0.0
    duration_ms: _Count = 0
    first_byte_ms: _Count = 0  # to the head of the answer
    estimated: bool = False  # the tokens, because the stream broke off before the engine reported them


PATH: Final = "/internal/usage/v1/records"  # of the metadata service; Envoy has no route to it
KIND: Final = "usage_records"  # of signed message
RECORDS_AT_ONCE: Final = 500  # in one batch, at most
MAX_BATCH_BYTES: Final = 4 * 1024 * 1024
_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(UsageRecord).decode


class UsageFormatError(ValueError):
    """A batch that no gateway of ours sends."""


def encoded(record: UsageRecord) -> bytes:
    """One line of a batch, without its end."""
    return _encode(record)


def batch_of(lines: Iterable[bytes]) -> bytes:
    """A batch of encoded records."""
    return b"\n".join(lines)


def records_in(batch: bytes) -> list[UsageRecord]:
    """The records of a batch. Raises UsageFormatError."""
    lines = batch.split(b"\n") if batch else []
    if len(lines) > RECORDS_AT_ONCE:
        raise UsageFormatError(f"{len(lines)} records; {RECORDS_AT_ONCE} are allowed")
    try:
        return [_decode(line) for line in lines]
    except msgspec.DecodeError as error:
        raise UsageFormatError(str(error)[:200]) from error
