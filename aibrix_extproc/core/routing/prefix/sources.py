"""Reads where an engine publishes its cache events: the answer of vLLM's `GET /kv_event_sources`."""

import re
from typing import Final

import msgspec

_ADDRESS: Final = re.compile(r"tcp://[^\s/]*:([0-9]{1,5})")
MAX_PORT: Final = 65_535


class _Source(msgspec.Struct):
    enable_kv_cache_events: bool = False
    publisher: str = ""
    endpoint: str = ""
    replay_endpoint: str | None = None


class EventSource(msgspec.Struct, frozen=True, gc=False):
    """The two sockets of an engine; `replay` is None if it has only one."""

    address: str
    replay: str | None


_SOURCES: Final = msgspec.json.Decoder(dict[str, _Source])


def read_source(answer: bytes, host: str) -> EventSource | None:
    """The sockets of an engine on `host`; None if it publishes nothing that can be followed.

    Of an address only the port counts: an engine cannot send us to another host. Several ranks behind one port share no
    cache, and which of them takes a request is not known, so they are not followed.
    """
    try:
        sources = list(_SOURCES.decode(answer).values())
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    if len(sources) != 1 or not sources[0].enable_kv_cache_events or sources[0].publisher != "zmq":
        return None
    address = _at(sources[0].endpoint, host)
    return None if address is None else EventSource(address, _at(sources[0].replay_endpoint or "", host))


def _at(address: str, host: str) -> str | None:
    found = _ADDRESS.fullmatch(address)
    if found is None or not 0 < int(found[1]) <= MAX_PORT:
        return None
    return f"tcp://{host}:{int(found[1])}"
