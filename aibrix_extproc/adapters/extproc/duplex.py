"""FULL_DUPLEX_STREAMED: bodies come and go in pieces, while the exchange takes whole bodies only.

`from_envoy` takes events. It passes some to the exchange, with bodies joined, and answers others itself. `to_envoy`
takes the replies of the exchange. It keeps the reply to a head until the reply to the body says what changes in the
head. Envoy wants every piece of a body answered by pieces, in the order head, body, trailers, or it answers 500.
A direction that is not in this mode passes unchanged.
"""

import logging
from collections.abc import Iterator
from enum import Enum, auto
from typing import Final

from msgspec.structs import replace

from aibrix_extproc.adapters.extproc import encoding
from aibrix_extproc.adapters.extproc.outgoing import PIECE_BYTES, BodyStream, Outgoing
from aibrix_extproc.core.exchange import events
from aibrix_extproc.core.exchange.outputs import Continue, Immediate, Phase, Reply
from aibrix_extproc.core.openai.contract.headers import DESTINATION
from aibrix_extproc.rope import LARGE_BYTES, Piece, Rope, rope_of

logger = logging.getLogger(__name__)

SMALL_PIECE_BYTES: Final = 1_024  # a smaller piece costs many times its size if it is kept by itself
JOINED_BYTES: Final = 65_536  # small pieces are joined up to this size
MAX_BUFFERED_RESPONSE_BYTES: Final = 4 * 1024 * 1024  # of a response that may have to be changed; a longer one passes
RESPONSE_BODY_SECONDS: Final = 30.0  # for such a response to come; Envoy has no timeout for messages in this mode

Head = events.RequestHead | events.ResponseHead
Body = events.RequestBody | events.LargeRequestBody | events.ResponseBody
Trailers = events.RequestTrailers | events.ResponseTrailers
_REQUEST: Final = (Phase.REQUEST_HEAD, Phase.REQUEST_BODY, Phase.REQUEST_TRAILERS)
_RESPONSE: Final = (Phase.RESPONSE_HEAD, Phase.RESPONSE_BODY, Phase.RESPONSE_TRAILERS)


class _Stage(Enum):
    """The state of a direction."""

    NO_HEAD = auto()  # no head has come; Envoy can be configured to send none
    HEAD_WAITS = auto()  # the head is here and waits for the body
    BODY_PASSED = auto()  # the exchange has the body, and its reply is awaited
    STREAMING = auto()  # the head was answered, the body follows piece by piece
    DONE = auto()


class Direction:
    """One direction of an exchange."""

    def __init__(self, phases: tuple[Phase, Phase, Phase], limit: int, *, streams: bool) -> None:
        self.phases = phases
        self.limit = limit  # bytes that may be kept
        self.streams = streams  # the direction is in this mode
        self.stage = _Stage.NO_HEAD
        self.head: Continue | None = None
        self.pieces: list[Piece] = []
        self.size = 0
        self.ended = False  # the body is complete
        self.trailers = False  # and trailers ended it

    def keep(self, data: bytes | Rope) -> bool:
        """Keep a piece. False if the limit is exceeded."""
        self.size += len(data)
        if isinstance(data, Rope):
            self.pieces += data.pieces
            return self.size <= self.limit
        last = self.pieces[-1] if self.pieces else None
        if len(data) >= SMALL_PIECE_BYTES:
            self.pieces.append(data)
        elif isinstance(last, bytearray) and len(last) < JOINED_BYTES:
            last += data
        else:
            self.pieces.append(bytearray(data))
        return self.size <= self.limit

    def end(self, *, trailers: bool = False) -> None:
        """The body has ended."""
        self.ended, self.trailers = True, trailers

    def whole(self) -> bytes | Rope:
        """The body as far as it has come, a large one in pieces. It is kept, because it may have to pass unchanged."""
        if self.size > LARGE_BYTES:
            return rope_of(self.pieces)
        joined = b"".join(self.pieces)
        self.pieces = [joined]
        return joined

    def release(self, change: Continue | None = None) -> list[Outgoing]:
        """The replies to what is kept: the head with its changes, the body or its replacement, trailers if any."""
        head_phase, body_phase, trailers_phase = self.phases
        sent: list[Outgoing] = [encoding.encode(_merged(head_phase, self.head, change))]
        changed = None if change is None else change.large_body or change.body
        body = self.whole() if changed is None else changed
        whole = self.ended and not self.trailers
        if body or whole:
            sent += _body(body_phase, body, end=whole)
        if self.trailers:
            sent.append(encoding.EMPTY_CONTINUE[trailers_phase])
        self.stage = _Stage.DONE if self.ended else _Stage.STREAMING
        self.head, self.pieces = None, []
        return sent


class Duplex:
    """Both directions of one exchange."""

    def __init__(self, *, request: bool, response: bool, max_body_bytes: int) -> None:
        self._request = Direction(_REQUEST, max_body_bytes, streams=request)
        self._response = Direction(_RESPONSE, MAX_BUFFERED_RESPONSE_BYTES, streams=response)
        self._directions = {
            phase: direction for direction in (self._request, self._response) for phase in direction.phases
        }
        self._over = False  # the exchange has given a final answer

    @property
    def buffers_response(self) -> bool:
        """Whether the head of a response waits for its body."""
        return not self._over and self._response.stage is _Stage.HEAD_WAITS

    def buffers(self, phase: Phase) -> bool:
        """Whether the head of this phase's direction is not answered yet."""
        return not self._over and self._directions[phase].stage in (_Stage.HEAD_WAITS, _Stage.BODY_PASSED)

    # ---- from Envoy

    def from_envoy(self, event: events.EnvoyEvent, phase: Phase) -> tuple[events.Event | None, list[Outgoing]]:
        """The event for the exchange, if any, and the replies that need no exchange."""
        if self._over:
            return None, []
        direction = self._directions[phase]
        if not direction.streams:
            return event, []
        if isinstance(event, Head):
            return self._on_head(direction, event), []
        if isinstance(event, Body):
            return self._on_body(direction, event, phase)
        return self._on_trailers(direction, event, phase)

    def _on_head(self, direction: Direction, event: Head) -> events.Event | None:
        if direction.stage is not _Stage.NO_HEAD:
            logger.warning("a second head was ignored", extra={"stage": direction.stage.name})
            return None
        direction.stage = _Stage.DONE if event.end_of_stream else _Stage.HEAD_WAITS
        return event

    def _on_body(self, direction: Direction, event: Body, phase: Phase) -> tuple[events.Event | None, list[Outgoing]]:
        match direction.stage:
            case _Stage.HEAD_WAITS:
                fits = direction.keep(event.data)
                if event.end_of_stream:
                    direction.end()
                elif fits:
                    return None, []
                return self._pass_body(direction, event.at), []
            case _Stage.STREAMING | _Stage.NO_HEAD:
                if event.end_of_stream:
                    direction.stage = _Stage.DONE
                return None, _body(phase, event.data, end=event.end_of_stream)
            case _:
                return None, []  # Envoy can send the end of a large body twice

    def _on_trailers(
        self, direction: Direction, event: Trailers, phase: Phase
    ) -> tuple[events.Event | None, list[Outgoing]]:
        if direction.stage is _Stage.HEAD_WAITS:
            direction.end(trailers=True)
            return self._pass_body(direction, event.at), []
        direction.stage = _Stage.DONE
        return None, [encoding.EMPTY_CONTINUE[phase]]

    def cut_short(self, at: float) -> events.Event:
        """The event that makes the exchange decide on the part of a response that is here."""
        return self._pass_body(self._response, at)

    def _pass_body(self, direction: Direction, at: float) -> events.Event:
        direction.stage = _Stage.BODY_PASSED
        body = direction.whole()
        if direction is self._response:  # its limit is a few megabytes
            return events.ResponseBody(at, body.joined() if isinstance(body, Rope) else body, direction.ended)
        if isinstance(body, Rope):
            return events.LargeRequestBody(at, body, direction.ended)
        return events.RequestBody(at, body, direction.ended)

    # ---- to Envoy

    def to_envoy(self, reply: Reply) -> list[Outgoing]:
        """The messages for Envoy that a reply of the exchange allows now."""
        if self._over:
            return []
        if isinstance(reply, Immediate):
            return self._final(reply)
        direction = self._directions[reply.phase]
        if not direction.streams:
            return [encoding.encode(reply)]
        if reply.phase is direction.phases[0]:
            return self._on_head_reply(direction, reply)
        if direction.stage is not _Stage.BODY_PASSED:
            logger.warning("a reply to nothing was dropped", extra={"phase": reply.phase.value})
            return []
        if (reply.body is not None or reply.large_body is not None) and not direction.ended:
            return self._final(_as_immediate(reply))  # Envoy would send the rest of the replaced body on
        return direction.release(reply)

    def _on_head_reply(self, direction: Direction, reply: Continue) -> list[Outgoing]:
        waits = reply.buffer_response if direction is self._response else reply.destination is None
        reply = replace(reply, buffer_response=False)  # this mode cannot be changed, and need not be
        if direction.stage is not _Stage.HEAD_WAITS:
            return [encoding.encode(reply)]
        direction.head = reply
        return [] if waits else direction.release()

    def go_on(self, phase: Phase) -> list[Outgoing]:
        """Let everything pass as it came: after a bug, when it is too late for an answer of ours."""
        if self._over:
            return []
        direction = self._directions[phase]
        if not direction.streams or direction.stage not in (_Stage.HEAD_WAITS, _Stage.BODY_PASSED):
            return [encoding.EMPTY_CONTINUE[phase]]
        return direction.release()

    def _final(self, reply: Immediate) -> list[Outgoing]:
        self._over = True
        for direction in (self._request, self._response):
            direction.pieces = []
        return [encoding.encode(reply)]


def _body(phase: Phase, data: bytes | Rope, *, end: bool) -> list[Outgoing]:
    return [BodyStream(phase, data, end=end)] if isinstance(data, Rope) else list(_pieces(phase, data, end=end))


def _pieces(phase: Phase, data: bytes, *, end: bool) -> Iterator[bytes]:
    """At least one message; the last one carries the end."""
    size = len(data)
    for start in range(0, size or 1, PIECE_BYTES):
        stop = start + PIECE_BYTES
        yield encoding.encode_piece(phase, data[start:stop], end=end and stop >= size)


def _merged(phase: Phase, head: Continue | None, change: Continue | None) -> Continue:
    """One reply to the head, from the reply to the head and the later reply to its body."""
    if head is None or change is None:
        return replace(head or change or Continue(phase), phase=phase, body=None, large_body=None)
    set_headers = (*head.set_headers, *change.set_headers)
    kept = {DESTINATION, *(name for name, _ in set_headers)} if change.destination else dict(set_headers)
    removed = dict.fromkeys((*head.remove_headers, *change.remove_headers))
    return replace(
        change,
        phase=phase,
        body=None,
        large_body=None,
        set_headers=set_headers,
        remove_headers=tuple(name for name in removed if name not in kept),
    )


def _as_immediate(reply: Continue) -> Immediate:
    """A changed response as an immediate one."""
    headers = dict(reply.set_headers)
    status = int(headers.pop(":status", "200"))
    headers.pop("content-length", None)
    return Immediate(status, tuple(headers.items()), reply.body or b"", "ext_proc_cut_short")
