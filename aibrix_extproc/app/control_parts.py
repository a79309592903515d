"""The parts of a gateway that follow the metadata service's control state; none without `control.url`."""

import os
import secrets
import socket
from collections.abc import Callable, Sequence

from aibrix_extproc.adapters.controlcache.file import ControlCache
from aibrix_extproc.adapters.internal_api.client import InternalClient
from aibrix_extproc.app.fleet_store import FleetStore
from aibrix_extproc.app.parts.control_feed import ControlFeed, Usage
from aibrix_extproc.app.parts.cordons import CordonKeeper
from aibrix_extproc.app.parts.part import Part
from aibrix_extproc.core.access.api_keys import ApiKeys
from aibrix_extproc.core.access.records import CallerRecord, HeldKey
from aibrix_extproc.core.control.rows import Section
from aibrix_extproc.core.control.state import Changes, ControlState
from aibrix_extproc.core.fleet.cordons import Cordon
from aibrix_extproc.core.fleet.load import LoadBook
from aibrix_extproc.core.fleet.news import EnginesChanged
from aibrix_extproc.settings.control import ControlSettings

_NONCE_BYTES = 16


def api_keys(settings: ControlSettings, state: ControlState) -> ApiKeys | None:
    """Keys and callers of the API; None without `control.url`."""
    if settings.url is None:
        return None
    return ApiKeys(state.view(Section.CALLERS, CallerRecord), state.view(Section.KEYS, HeldKey), lambda: state.complete)


def follow_news(state: ControlState, *renew: Callable[[str], None]) -> None:
    """Call these for engines that somebody has changed, with the endpoint's identity."""

    def on_changes(changes: Changes[EnginesChanged]) -> None:
        for news in changes.put.values():
            for identity in news.identities:
                for each in renew:
                    each(identity)

    state.view(Section.NEWS, EnginesChanged).subscribe(on_changes)


def control_parts(
    settings: ControlSettings, state: ControlState, store: FleetStore, load: LoadBook,
    shared: Callable[[], Sequence[bytes]], usage: Usage = dict,
) -> list[Part]:  # fmt: skip
    """`state` has its views already, those of other parts included; `shared`: the secrets of our processes."""
    if settings.url is None:
        return []
    cordons = CordonKeeper(state.view(Section.CORDONS, Cordon), store, load)
    feed = ControlFeed(
        state,
        InternalClient(settings.url, replica_name(), shared),
        cordons.in_flight,
        lambda: secrets.token_hex(_NONCE_BYTES),
        usage=usage,
        cache=None if settings.cache_file is None else ControlCache(settings.cache_file),
        start_seconds=settings.start_seconds,
    )
    return [cordons, feed]


def replica_name() -> str:
    """The name of this process among all gateways."""
    return f"{socket.gethostname()}-{os.getpid()}"
