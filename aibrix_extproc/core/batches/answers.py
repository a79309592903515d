"""Reads an engine's answer for a batch's results: its JSON as one line, and what it cost."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from aibrix_extproc.core.batches.records import Usage


class _Fields(msgspec.Struct):
    usage: msgspec.Raw = msgspec.Raw()


_FIELDS: Final = msgspec.json.Decoder(_Fields)
NO_BODY: Final = b"null"


@dataclass(frozen=True, slots=True)
class AnswerBody:
    """JSON without line breaks, and the usage in it."""

    text: bytes
    usage: Usage


def read_answer(raw: bytes) -> AnswerBody | None:
    """The body of an answer; None if it is no JSON. An empty one is `null`.

    A body that is one line already is not parsed into objects, which takes ten times as long for a short answer, and a
    hundred times for one of embeddings.
    """
    if not raw:
        return AnswerBody(NO_BODY, Usage())
    if b"\n" not in raw and b"\r" not in raw:
        try:
            raw.decode("utf-8")  # msgspec does not look into the strings that it skips
            return AnswerBody(raw, _usage_in(bytes(_FIELDS.decode(raw).usage)))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass  # no object, or what msgspec is stricter about: NaN, half of a surrogate pair
    return _read_slowly(raw)


def _read_slowly(raw: bytes) -> AnswerBody | None:
    try:
        body = json.loads(raw)
        text = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
    except (ValueError, RecursionError):
        return None
    return AnswerBody(text, usage_of(body.get("usage")) if isinstance(body, dict) else Usage())


def _usage_in(raw: bytes) -> Usage:
    return usage_of(msgspec.json.decode(raw)) if raw else Usage()


def usage_of(usage: object) -> Usage:
    """The field `usage` of an answer, of whichever operation; what is no count is none."""
    if not isinstance(usage, Mapping):
        return Usage()
    details_in = _mapping(usage, ("prompt_tokens_details", "input_tokens_details"))
    details_out = _mapping(usage, ("completion_tokens_details", "output_tokens_details"))
    return Usage(
        _count(usage, ("prompt_tokens", "input_tokens")),
        _count(details_in, ("cached_tokens",)),
        _count(usage, ("completion_tokens", "output_tokens")),
        _count(details_out, ("reasoning_tokens",)),
    )


def _mapping(usage: Mapping[str, Any], names: Sequence[str]) -> Mapping[str, Any]:
    return next((found for name in names if isinstance(found := usage.get(name), Mapping)), {})


def _count(usage: Mapping[str, Any], names: Sequence[str]) -> int:
    for name in names:
        value = usage.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53:
            return value
    return 0
