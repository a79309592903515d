"""What a route is given and what it gives back."""

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol, overload
from uuid import uuid4

from aibrix_extproc.simulator.errors import Reply, ReplyError, dump, shape_a

if TYPE_CHECKING:
    from aibrix_extproc.simulator.background import Background
    from aibrix_extproc.simulator.engine import Engine
    from aibrix_extproc.simulator.response_store import ResponseStore

SSE: Final = "text/event-stream; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Pace:
    """How long an answer is and how fast; None and empty leave it to the options."""

    tokens: int | None = None
    itl_seconds: float = 0.0
    tokens_per_write: int = 0
    text: str | None = None
    reasoning_tokens: int = 0


class Query(Protocol):
    """The parameters of a query string; a name may come several times."""

    @overload
    def get(self, name: str, /) -> str | None: ...
    @overload
    def get(self, name: str, default: str, /) -> str: ...

    def getall(self, name: str, default: list[str], /) -> list[str]:
        """All values of a name."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request, read in full."""

    engine: "Engine"
    store: "ResponseStore"
    background: "Background"
    method: str
    path: str
    query: Query
    headers: Mapping[str, str]
    """Case-insensitive."""
    body: bytes
    pace: Pace
    path_values: tuple[str, ...] = ()

    def request_id(self) -> str:
        """The id that vLLM builds the response's id from."""
        return self.headers.get("x-request-id") or uuid4().hex[:16]


def _nothing() -> None:
    return None


@dataclass(frozen=True, slots=True)
class EventStream:
    """An answer in pieces; each item is one event, or several that are written together."""

    events: AsyncIterator[bytes]
    close: Callable[[], None] = _nothing
    """Called exactly once at the end, however it comes; also if the first event was never asked for."""
    content_type: str = SSE
    headers: Mapping[str, str] = field(default_factory=dict)


Answer = Reply | EventStream


def json_reply(value: object, headers: Mapping[str, str] | None = None, status: int = 200) -> Reply:
    """A JSON answer."""
    return Reply(status, dump(value), headers=headers or {})


def parse_pace(headers: Mapping[str, str], default: Pace) -> Pace:
    """Read the x-sim headers of a request."""
    if not any(name in headers for name in _PACE_HEADERS):
        return default
    tokens = _number(headers, "x-sim-tokens", -1)
    return Pace(
        int(tokens) if tokens >= 0 else None,
        _number(headers, "x-sim-itl-ms", default.itl_seconds * 1e3) / 1e3,
        int(_number(headers, "x-sim-tokens-per-write", default.tokens_per_write)),
        headers.get("x-sim-text"),
        int(_number(headers, "x-sim-reasoning", 0)),
    )


_PACE_HEADERS: Final = ("x-sim-tokens", "x-sim-itl-ms", "x-sim-tokens-per-write", "x-sim-text", "x-sim-reasoning")


def _number(headers: Mapping[str, str], name: str, default: float) -> float:
    text = headers.get(name)
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e9:
        raise ReplyError(shape_a(400, "BadRequestError", f"{name} must be a number that is not negative, not {text!r}"))
    return value
