"""AIBrix's request headers that say where a request shall go. Nearly all requests have none, and pay one set test."""

from collections.abc import Mapping
from typing import Final

from aibrix_extproc.core.fleet.modelconfig import AUTO
from aibrix_extproc.core.fleet.placement import RouteHints
from aibrix_extproc.core.openai import headers
from aibrix_extproc.core.openai.sizes import read_sizes

MAX_SESSION_CHARACTERS: Final = 256


def hints_of(given: Mapping[str, str], body: bytes) -> RouteHints | None:
    """What the headers say; None if there are none of them."""
    if headers.ROUTING_HEADERS.isdisjoint(given):
        return None
    profile = given.get(headers.CONFIG_PROFILE)
    sizes = read_sizes(body) if profile is not None and profile.strip().lower() == AUTO else (None, None)
    return RouteHints(
        given.get(headers.ROUTING_STRATEGY),
        given.get(headers.EXTERNAL_FILTER),
        profile,
        _session(given.get(headers.SESSION_ID)) or _session(given.get(headers.SESSION_KEY)),
        *sizes,
    )


def _session(text: str | None) -> str | None:
    """One that is too long counts as none, as with AIBrix."""
    return text if text and len(text) <= MAX_SESSION_CHARACTERS else None
