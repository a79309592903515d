"""Runs the stream filter in a real Lua, with Envoy's side of it played in Lua too."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from lupa import luajit21

from aibrix_extproc.adapters.envoyproxy.spec import STREAM_FILTER
from tests.oracles.sse import SseEvent, SseParser

SSE = "text/event-stream; charset=utf-8"
_WORDS = ("terminal", "error", "unmetered")
_REPORTED: Mapping[str, Any] = {"true": True, "false": False}


@dataclass(frozen=True)
class Passed:
    """What came out behind the filter."""

    pieces: tuple[bytes, ...]
    metadata: dict[str, Any]
    progress: dict[str, Any]  # of a stream that did not end: its events and their bytes
    headers: dict[str, str]
    writes: int
    first_seconds: float | None  # from the head to the first bytes; a quarter of a second for each wait

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    @property
    def events(self) -> list[SseEvent]:
        parser = SseParser()
        return parser.feed(self.body) + parser.finish()

    @property
    def error(self) -> dict[str, Any]:
        """The only error in the stream."""
        events: list[dict[str, Any]] = [json.loads(one.data) for one in self.events if one.data != "[DONE]"]
        found = [event for event in events if event.get("error")]
        assert len(found) == 1, self.body
        return found[0]


@cache
def lua(script: Path = STREAM_FILTER) -> Any:
    """A LuaJIT with a filter and the fake Envoy in it. Strings are bytes."""
    started = luajit21.LuaRuntime(encoding=None, register_eval=False, unpack_returned_tuples=True)
    started.execute(script.read_bytes())
    started.execute(Path(__file__).with_name("fake_envoy.lua").read_bytes())
    return started


def send(
    pieces: Iterable[bytes],
    *,
    stream: str = "data_done",
    hide: bool = False,
    notes: Mapping[str, Any] | None = None,
    content_type: str = SSE,
    status: str = "200",
    headers: Mapping[str, str] | None = None,
    ending: str = "end",
    metadata: bool = True,
    script: Path = STREAM_FILTER,
    shared: Any = None,
) -> Passed:
    """One response through a filter; `ending` is `end`, `trailers` or `reset`."""
    runs = lua(script)
    if notes is None:
        notes = {"request_id": "r", "stream": stream, "hide_usage": hide}
    head = {":status": status, "content-type": content_type, **(headers or {})}
    lua_headers = _table(runs, head)
    seen = runs.globals()[b"run"](
        _table(runs, notes) if metadata else None,
        lua_headers,
        runs.table(*pieces),
        ending.encode(),
        runs.table() if shared is None else shared,
    )
    assert not list(seen[b"errors"].values()), list(seen[b"errors"].values())
    report = _report(seen[b"metadata"][b"report"] or b"")
    first = report.pop("first_seconds", None)
    progress: dict[str, Any] = {name: report.pop(name) for name in ("events", "event_bytes") if name in report}
    return Passed(
        tuple(seen[b"out"].values()),
        report,
        progress,
        {name.decode(): value.decode() for name, value in lua_headers.items()},
        seen[b"writes"],
        first,
    )


def shared_metadata(script: Path, **namespaces: Mapping[str, Any]) -> Any:
    """The metadata of a request that its attempts share; underscores in names of namespaces stand for dots."""
    runs = lua(script)
    return runs.table_from(
        {name.replace("_", ".").encode(): _table(runs, values) for name, values in namespaces.items()}
    )


def _table(runs: Any, values: Mapping[str, Any]) -> Any:
    return runs.table_from({
        name.encode(): value.encode() if isinstance(value, str) else value for name, value in values.items()
    })  # fmt: skip


def _report(text: bytes) -> dict[str, Any]:
    pairs = (word.split("=") for word in text.decode().split())
    return {name: _REPORTED.get(value, value) if name in _WORDS else float(value) for name, value in pairs}


def cut(body: bytes, size: int) -> list[bytes]:
    """Pieces of one size and, as HTTP/1.1 has it, an empty one that carries the end."""
    return [*(body[at : at + size] for at in range(0, len(body), size)), b""]


def cut_at(body: bytes, places: Sequence[int]) -> list[bytes]:
    """Pieces between places."""
    edges = [0, *sorted({place % (len(body) + 1) for place in places}), len(body)]
    return [*(body[start:stop] for start, stop in pairwise(edges)), b""]
