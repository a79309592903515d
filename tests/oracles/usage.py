"""An oracle for the filters in Lua: what a JSON body, or an event of a stream, says of its cost in tokens.

Engines spell it in three ways: OpenAI's chat (`prompt_tokens`), OpenAI's responses (`input_tokens`, in streams inside
`response`) and Anthropic's (`input_tokens` without the cached ones, in streams split over two events). A usage that
cannot be read is None, never a guess.
"""

from typing import Any, Final

import msgspec

from aibrix_extproc.core.openai.wire.usage import Usage

_ABSENT: Final = msgspec.Raw()
_MAX_TOKENS: Final = 2**53  # what every JSON reader can count


class _Inner(msgspec.Struct):
    usage: msgspec.Raw = _ABSENT


class _Envelope(msgspec.Struct):
    usage: msgspec.Raw = _ABSENT
    response: msgspec.Raw = _ABSENT  # responses: the object that an event carries
    message: msgspec.Raw = _ABSENT  # messages: the same in message_start


_ENVELOPE: Final = msgspec.json.Decoder(_Envelope)
_INNER: Final = msgspec.json.Decoder(_Inner)


def usage_from_json(body: bytes | str) -> Usage | None:
    """The usage that a JSON body or the data of one event tells; everything around it is skipped, not built."""
    try:
        envelope = _ENVELOPE.decode(body)
        for raw in (envelope.usage, _inside(envelope.response), _inside(envelope.message)):
            usage = _read(raw)
            if usage is not None:
                return usage
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    return None


def _inside(raw: msgspec.Raw) -> msgspec.Raw:
    return _INNER.decode(raw).usage if _is_object(raw) else _ABSENT


def _read(raw: msgspec.Raw) -> Usage | None:
    return _usage(msgspec.json.decode(raw)) if _is_object(raw) else None


def _is_object(raw: msgspec.Raw) -> bool:
    return bytes(memoryview(raw)[:1]) == b"{"


def _usage(fields: dict[str, Any]) -> Usage | None:
    read = _count(fields, "prompt_tokens")
    if read is None:
        read = _count(fields, "input_tokens")
        if read is not None:  # Anthropic counts what the cache gave or took apart
            read += sum(_count(fields, f"cache_{way}_input_tokens") or 0 for way in ("read", "creation"))
    written = _count(fields, "completion_tokens")
    if written is None:
        written = _count(fields, "output_tokens")
    total = _count(fields, "total_tokens")
    if read is None and written is None and total is None:
        return None  # seconds of audio, say
    output_tokens = written or 0
    if read is None:  # rerankers of old tell the sum alone
        read = max((total or 0) - output_tokens, 0)
    return Usage(read, output_tokens, total if total is not None else read + output_tokens, _cached(fields))


def _cached(fields: dict[str, Any]) -> int:
    for name in ("prompt_tokens_details", "input_tokens_details"):
        details = fields.get(name)
        if isinstance(details, dict):
            return _count(details, "cached_tokens") or 0
    return _count(fields, "cache_read_input_tokens") or 0


def _count(fields: dict[str, Any], name: str) -> int | None:
    value = fields.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MAX_TOKENS:
        return None
    return value
