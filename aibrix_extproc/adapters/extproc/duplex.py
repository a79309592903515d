"""FULL_DUPLEX_STREAMED: bodies come and go in pieces, beside a machine that knows whole bodies only.

Events go in by `arrive`: some go on to the machine, joined where it wants a whole body, some are answered here. Its
replies come back by `leave`, which holds a head until the answer to its body has told what to change in it. Envoy
wants every piece of a body answered by pieces, in the order head, body, trailers; anything else is a 500 there.
A direction that is not in this mode passes through untouched.
"""

import logging
from collections.abc import Iterator
from enum import Enum, auto
from typing import Final

from msgspec.structs import replace

from aibrix_extproc.adapters.extproc import codec
from aibrix_extproc.adapters.extproc.outgoing import PIECE_BYTES, BodyStream, Outgoing
from aibrix_extproc.core.exchange import events
from aibrix_extproc.core.exchange.outputs import Continue, Immediate, Phase, Reply
from aibrix_extproc.core.openai.contract.headers import DESTINATION
from aibrix_extproc.rope import LARGE_BYTES, Piece, Rope, rope_of

logger = logging.getLogger(__name__)

SMALL_PIECE_BYTES: Final = 1_024  # a piece of a byte, kept by itself, costs many times that
JOINED_BYTES: Final = 65_536  # so small pieces are joined up to this size
MAX_HELD_RESPONSE_BYTES: Final = 4 * 1024 * 1024  # of an answer that may have to be changed; what is longer goes on
HOLD_SECONDS: Final = 30.0  # for such an answer to come; Envoy has no timeout for messages in this mode

Head = events.RequestHead | events.ResponseHead
Body = events.RequestBody | events.LargeRequestBody | events.ResponseBody
Trailers = events.RequestTrailers | events.ResponseTrailers
_REQUEST: Final = (Phase.REQUEST_HEAD, Phase.REQUEST_BODY, Phase.REQUEST_TRAILERS)
_RESPONSE: Final = (Phase.RESPONSE_HEAD, Phase.RESPONSE_BODY, Phase.RESPONSE_TRAILERS)


class _Stage(Enum):
    """How far a direction has come."""

    FRESH = auto()  # no head was seen; there may be none, where Envoy is told not to send it
    HELD = auto()  # the head waits for the body
    JUDGED = auto()  # the body is with the machine
    OPEN = auto()  # the head has gone on, the body follows piece by piece
    DONE = auto()


class Lane:
    """One direction of an exchange."""

    def __init__(self, phases: tuple[Phase, Phase, Phase], limit: int, *, streams: bool) -> None:
        self.phases = phases
        self.limit = limit  # bytes that are kept
        self.streams = streams  # whether the direction is in this mode
        self.stage = _Stage.FRESH
        self.head: Continue | None = None
        self.pieces: list[Piece] = []
        self.size = 0
        self.ended = False  # the body is whole
        self.trailers = False  # and it was trailers that ended it

    def keep(self, data: bytes | Rope) -> bool:
        """Keep a piece; False if that is too much."""
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
        """Nothing of the body comes any more."""
        self.ended, self.trailers = True, trailers

    def whole(self) -> bytes | Rope:
        """The body as far as it has come, a large one in pieces; it is kept, for it may have to go on as it is."""
        if self.size > LARGE_BYTES:
            return rope_of(self.pieces)
        joined = b"".join(self.pieces)
        self.pieces = [joined]
        return joined

    def release(self, change: Continue | None = None) -> list[Outgoing]:
        """Send on what is held: the head with all changes, the body or what replaces it, trailers if they came."""
        head_phase, body_phase, trailers_phase = self.phases
        sent: list[Outgoing] = [codec.encode(_merged(head_phase, self.head, change))]
        changed = None if change is None else change.large_body or change.body
        body = self.whole() if changed is None else changed
        whole = self.ended and not self.trailers
        if body or whole:
            sent += _body(body_phase, body, end=whole)
        if self.trailers:
            sent.append(codec.EMPTY_CONTINUE[trailers_phase])
        self.stage = _Stage.DONE if self.ended else _Stage.OPEN
        self.head, self.pieces = None, []
        return sent


class Duplex:
    """Both directions of one exchange."""

    def __init__(self, *, request: bool, response: bool, max_body_bytes: int) -> None:
        self._request = Lane(_REQUEST, max_body_bytes, streams=request)
        self._response = Lane(_RESPONSE, MAX_HELD_RESPONSE_BYTES, streams=response)
        self._lanes = {phase: lane for lane in (self._request, self._response) for phase in lane.phases}
        self._over = False  # a final answer was given

    @property
    def holds_response(self) -> bool:
        """Whether the client waits for an answer whose head is here."""
        return not self._over and self._response.stage is _Stage.HELD

    def holds(self, phase: Phase) -> bool:
        """Whether the head of this phase's direction has not gone on."""
        return not self._over and self._lanes[phase].stage in (_Stage.HELD, _Stage.JUDGED)

    # ---- from Envoy

    def arrive(self, event: events.EnvoyEvent, phase: Phase) -> tuple[events.Event | None, list[Outgoing]]:
        """What the machine must hear of it, and what is answered without asking."""
        if self._over:
            return None, []
        lane = self._lanes[phase]
        if not lane.streams:
            return event, []
        if isinstance(event, Head):
            return self._on_head(lane, event), []
        if isinstance(event, Body):
            return self._on_body(lane, event, phase)
        return self._on_trailers(lane, event, phase)

    def _on_head(self, lane: Lane, event: Head) -> events.Event | None:
        if lane.stage is not _Stage.FRESH:
            logger.warning("a second head was ignored", extra={"stage": lane.stage.name})
            return None
        lane.stage = _Stage.DONE if event.end_of_stream else _Stage.HELD
        return event

    def _on_body(self, lane: Lane, event: Body, phase: Phase) -> tuple[events.Event | None, list[Outgoing]]:
        match lane.stage:
            case _Stage.HELD:
                fits = lane.keep(event.data)
                if event.end_of_stream:
                    lane.end()
                elif fits:
                    return None, []
                return self._judged(lane, event.at), []
            case _Stage.OPEN | _Stage.FRESH:
                if event.end_of_stream:
                    lane.stage = _Stage.DONE
                return None, _body(phase, event.data, end=event.end_of_stream)
            case _:
                return None, []  # Envoy is known to say twice that a large body has ended

    def _on_trailers(self, lane: Lane, event: Trailers, phase: Phase) -> tuple[events.Event | None, list[Outgoing]]:
        if lane.stage is _Stage.HELD:
            lane.end(trailers=True)
            return self._judged(lane, event.at), []
        lane.stage = _Stage.DONE
        return None, [codec.EMPTY_CONTINUE[phase]]

    def cut_short(self, at: float) -> events.Event:
        """The machine must decide on the part of a held response that is here."""
        return self._judged(self._response, at)

    def _judged(self, lane: Lane, at: float) -> events.Event:
        lane.stage = _Stage.JUDGED
        body = lane.whole()
        if lane is self._response:  # the bound on answers that are held is a few megabytes
            return events.ResponseBody(at, body.joined() if isinstance(body, Rope) else body, lane.ended)
        if isinstance(body, Rope):
            return events.LargeRequestBody(at, body, lane.ended)
        return events.RequestBody(at, body, lane.ended)

    # ---- to Envoy

    def leave(self, reply: Reply) -> list[Outgoing]:
        """What Envoy gets of a reply now."""
        if self._over:
            return []
        if isinstance(reply, Immediate):
            return self._final(reply)
        lane = self._lanes[reply.phase]
        if not lane.streams:
            return [codec.encode(reply)]
        if reply.phase is lane.phases[0]:
            return self._on_head_reply(lane, reply)
        if lane.stage is not _Stage.JUDGED:
            logger.warning("a reply to nothing was dropped", extra={"phase": reply.phase.value})
            return []
        if (reply.body is not None or reply.large_body is not None) and not lane.ended:
            return self._final(_as_immediate(reply))  # the rest of what is replaced would have nowhere to go
        return lane.release(reply)

    def _on_head_reply(self, lane: Lane, reply: Continue) -> list[Outgoing]:
        waits = reply.buffer_response if lane is self._response else reply.destination is None
        reply = replace(reply, buffer_response=False)  # the mode cannot be changed, nor need it be
        if lane.stage is not _Stage.HELD:
            return [codec.encode(reply)]
        lane.head = reply
        return [] if waits else lane.release()

    def go_on(self, phase: Phase) -> list[Outgoing]:
        """After a bug, when it is too late for an answer of ours: let Envoy have everything as it came."""
        if self._over:
            return []
        lane = self._lanes[phase]
        if not lane.streams or lane.stage not in (_Stage.HELD, _Stage.JUDGED):
            return [codec.EMPTY_CONTINUE[phase]]
        return lane.release()

    def _final(self, reply: Immediate) -> list[Outgoing]:
        self._over = True
        for lane in (self._request, self._response):
            lane.pieces = []
        return [codec.encode(reply)]


def _body(phase: Phase, data: bytes | Rope, *, end: bool) -> list[Outgoing]:
    return [BodyStream(phase, data, end=end)] if isinstance(data, Rope) else list(_pieces(phase, data, end=end))


def _pieces(phase: Phase, data: bytes, *, end: bool) -> Iterator[bytes]:
    """One message at least; the end is told with the last one."""
    size = len(data)
    for start in range(0, size or 1, PIECE_BYTES):
        stop = start + PIECE_BYTES
        yield codec.encode_piece(phase, data[start:stop], end=end and stop >= size)


def _merged(phase: Phase, head: Continue | None, change: Continue | None) -> Continue:
    """One answer to the head out of what was said of it, and later of its body."""
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
    """A changed answer as one that Envoy gives by itself."""
    headers = dict(reply.set_headers)
    status = int(headers.pop(":status", "200"))
    headers.pop("content-length", None)
    return Immediate(status, tuple(headers.items()), reply.body or b"", "ext_proc_cut_short")
