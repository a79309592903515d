"""Starting a listener, and what to say when that is impossible."""

import os
from collections.abc import Awaitable, Callable

from aibrix_extproc.app.descriptors import connections_that_fit
from aibrix_extproc.http2.listener_limits import ListenerLimits
from aibrix_extproc.settings import ServerSettings


class StartError(Exception):
    """The gateway cannot start as it is configured; one sentence that says what to do."""


async def listening_at(start: Callable[[str, int], Awaitable[int]], host: str, port: int, purpose: str) -> str:
    """Start a listener; where it is, for the log."""
    try:
        return _shown(host, await start(host, port))
    except OSError as error:
        raise StartError(_cannot_listen(host, port, purpose, error)) from error


def _cannot_listen(host: str, port: int, purpose: str, error: OSError) -> str:
    # By its number, because sockets and event loops add words of their own; a failed name lookup has a negative one.
    reason = os.strerror(error.errno).lower() if error.errno and error.errno > 0 else error.strerror or str(error)
    return f"cannot listen on {_shown(host, port)} for {purpose}: {reason}"


def _shown(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def bounds_of(server: ServerSettings, descriptors: int) -> ListenerLimits:
    """What peers may take of the ext_proc listener, in a process that may have so many file descriptors."""
    return ListenerLimits(
        connections=connections_that_fit(server.max_connections, descriptors),
        connections_of_peer=server.max_connections_of_peer,
        idle_seconds=server.idle_seconds,
        streams=server.max_streams,
        streams_of_peer=server.max_streams_of_peer,
    )
