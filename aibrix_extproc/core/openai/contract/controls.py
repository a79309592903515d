"""What steers the engine instead of the answer: one table for headers, JSON members and form fields.

Only callers with `engine_controls` may send these. Pure limits of one's own answer (`min_tokens`, `stop_token_ids`,
`chat_template_kwargs` and the like) are no controls.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from msgspec import Raw


class Place(StrEnum):
    """Where a control stands."""

    HEADER = "header"
    BODY = "body"


class Otherwise(StrEnum):
    """What happens to a control of a caller that may not send it."""

    REMOVED = "removed"  # silently: clients send it without meaning to steer anything
    REFUSED = "refused"  # a 400: a client that sent it relies on its effect


@dataclass(frozen=True, slots=True)
class Control:
    """One header, or one top-level member of a body. `null` is what an engine takes for absence."""

    name: str
    place: Place
    otherwise: Otherwise
    reason: str
    neutral: bytes = b"null"  # the JSON value that has no effect, written in the place of a removed one
    harmless: tuple[Raw, ...] = (Raw(b"null"),)  # JSON values that steer nothing and always pass


_HEADER, _BODY, _REMOVED, _REFUSED = Place.HEADER, Place.BODY, Otherwise.REMOVED, Otherwise.REFUSED

CONTROLS: Final[tuple[Control, ...]] = (
    Control("x-vllm-priority", _HEADER, _REMOVED, "the request overtakes those of others"),
    Control("x-data-parallel-rank", _HEADER, _REMOVED, "picks the rank, past the engine's own balancing"),
    Control("endpoint-load-metrics-format", _HEADER, _REMOVED, "makes the engine tell its load"),
    Control("priority", _BODY, _REFUSED, "the request overtakes those of others", harmless=(Raw(b"null"), Raw(b"0"))),
    Control("kv_transfer_params", _BODY, _REFUSED, "moves blocks of the KV cache between engines"),
    Control("ec_transfer_params", _BODY, _REFUSED, "moves encoder caches between engines"),
    Control("vllm_xargs", _BODY, _REFUSED, "arguments for the operator's own extensions of the engine"),
    Control("cache_salt", _BODY, _REFUSED, "decides with whom the prefix cache is shared"),
    Control("session_id", _BODY, _REMOVED, "names the session in the engine's cache events, as `x-session-id` does"),
    Control("request_id", _BODY, _REMOVED, "names the request inside of the engine; the gateway's own id is written",
            harmless=()),
)  # fmt: skip

HEADER_CONTROLS: Final = tuple(row.name for row in CONTROLS if row.place is _HEADER)
BODY_CONTROLS: Final[Mapping[str, Control]] = MappingProxyType(
    {row.name: row for row in CONTROLS if row.place is _BODY}
)
