"""Reads AIBrix's routing headers. Most requests have none, which costs one set test."""

from collections.abc import Mapping
from typing import Final

from aibrix_extproc.core.fleet.modelconfig import AUTO
from aibrix_extproc.core.openai.contract import headers
from aibrix_extproc.core.openai.wire.sizes import UNKNOWN, Sizes
from aibrix_extproc.core.placing import RoutingHeaders

MAX_SESSION_CHARACTERS: Final = 256


def wants_sizes(given: Mapping[str, str]) -> bool:
    """Whether the headers make the choice depend on the sizes of prompt and answer."""
    return given.get(headers.CONFIG_PROFILE, "").strip().lower() == AUTO


def routing_headers_of(given: Mapping[str, str], sizes: Sizes = UNKNOWN) -> RoutingHeaders | None:
    """What the headers say, with the sizes if they are wanted; None if there are none of them."""
    if headers.ROUTING_HEADERS.isdisjoint(given):
        return None
    profile = given.get(headers.CONFIG_PROFILE)
    return RoutingHeaders(
        given.get(headers.ROUTING_STRATEGY),
        given.get(headers.EXTERNAL_FILTER),
        profile,
        _session(given.get(headers.SESSION_ID)) or _session(given.get(headers.SESSION_KEY)),
        *sizes,
    )


def _session(text: str | None) -> str | None:
    """One that is too long counts as none, as with AIBrix."""
    return text if text and len(text) <= MAX_SESSION_CHARACTERS else None
