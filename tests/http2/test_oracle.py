"""The h2 library as client, in random conversations cut into random pieces: both must agree about everything."""

import random
from typing import Final

import h2.config
import h2.connection
import h2.events
import h2.settings
import pytest

from aibrix_extproc.http2.handler import CallOutcome
from aibrix_extproc.http2.limits import ConnectionLimits
from tests.http2 import wire
from tests.http2.rig import Talk

SMALL: Final = ConnectionLimits(stream_window=70_000, connection_window=120_000, frame_bytes=20_000, frames_per_turn=7)


class Oracle:
    """A client made of h2 that talks to a connection of ours, byte by byte as chance has it."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self.talk = Talk(SMALL, handshake=False)
        self.talk.calls.flush = lambda: None  # `exchange` takes what there is to write
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding=None))
        self.h2.initiate_connection()
        self.received: dict[int, bytes] = {}
        self.ended: dict[int, str] = {}
        self.pending: dict[int, bytes] = {}  # what is still to be sent of each stream
        self.sent: dict[int, bytes] = {}
        self.reset: set[int] = set()
        self.pings = 0

    def exchange(self) -> None:
        """Pass on what either side has to say, until both are silent."""
        while True:
            out = self.h2.data_to_send()
            at = 0
            while at < len(out):
                size = self._dice.choice((1, 5, 9, 100, 20_000))
                self.talk.connection.receive(out[at : at + size], self.talk.now)
                at += size
            while self.talk.connection.has_unread:
                self.talk.connection.receive(b"", self.talk.now)
            back = self.talk.connection.take()
            if not out and not back:
                return
            while back:  # by frames: within one call h2 does not yet apply what an acknowledgement has changed
                size = 9 + int.from_bytes(back[:3], "big")
                for event in self.h2.receive_data(back[:size]):
                    self._on(event)
                back = back[size:]

    def _on(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.DataReceived):
            assert event.stream_id is not None
            self.received[event.stream_id] = self.received.get(event.stream_id, b"") + (event.data or b"")
            self.h2.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id)
        elif isinstance(event, h2.events.TrailersReceived):
            assert event.stream_id is not None
            self.ended[event.stream_id] = dict(event.headers or ())[b"grpc-status"].decode()
        elif isinstance(event, h2.events.PingAckReceived):
            self.pings += 1
        elif isinstance(event, h2.events.StreamReset | h2.events.ConnectionTerminated):
            raise AssertionError(f"our side complains: {event}")

    def open(self) -> None:
        stream = self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream, list(wire.REQUEST))
        messages = [
            self._dice.randbytes(self._dice.choice((0, 1, 100, 30_000))) for _ in range(self._dice.randrange(4))
        ]
        self.pending[stream] = self.sent[stream] = b"".join(map(wire.message, messages))

    def send(self) -> None:
        if not self.pending:
            return
        stream = self._dice.choice(list(self.pending))
        room = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size) - 256
        size = max(0, min(room, self._dice.choice((1, 4, 5, 6, 1_000, 30_000))))
        piece, rest = self.pending[stream][:size], self.pending[stream][size:]
        padding = self._dice.choice((None, None, 0, 200))
        self.h2.send_data(stream, piece, end_stream=not rest, pad_length=padding)
        if rest:
            self.pending[stream] = rest
        else:
            del self.pending[stream]

    def cancel(self) -> None:
        if self.pending:
            stream = self._dice.choice(list(self.pending))
            self.h2.reset_stream(stream, 8)
            self.reset.add(stream)
            del self.pending[stream]

    def ping(self) -> None:
        self.h2.ping(self._dice.randbytes(8))

    def resize(self) -> None:
        code = h2.settings.SettingCodes
        window, frame = self._dice.choice((0, 3_000, 65_535, 200_000)), self._dice.choice((16_384, 60_000))
        self.h2.update_settings({code.INITIAL_WINDOW_SIZE: window, code.MAX_FRAME_SIZE: frame})


async def _converse(seed: int, steps: int) -> None:
    dice = random.Random(seed)
    oracle = Oracle(dice)
    actions = (oracle.open, oracle.open, *[oracle.send] * 8, oracle.cancel, oracle.ping, oracle.resize)
    for _ in range(steps):
        oracle.talk.now += 0.2
        dice.choice(actions)()
        if dice.random() < 0.7:
            oracle.exchange()
    while oracle.pending:
        oracle.send()
        oracle.exchange()
    oracle.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 10_000_000})
    oracle.exchange()
    finished = set(oracle.sent) - oracle.reset
    assert set(oracle.ended) == finished
    assert set(oracle.ended.values()) <= {"0"}
    for stream in finished:
        assert oracle.received.get(stream, b"") == oracle.sent[stream]
    outcomes = oracle.talk.log.outcomes
    assert (outcomes.count(CallOutcome.COMPLETED), outcomes.count(CallOutcome.CANCELLED)) == (
        len(finished),
        len(oracle.reset),
    )
    assert oracle.talk.connection.streams == 0
    assert oracle.talk.calls.memory.buffered == 0


@pytest.mark.parametrize("seed", range(15))
async def test_random_conversation_with_h2_loses_nothing(seed: int) -> None:
    await _converse(seed, 60)


@pytest.mark.slow
@pytest.mark.parametrize("number", [50, pytest.param(500, marks=pytest.mark.fuzz)])
async def test_long_random_conversations_with_h2_lose_nothing(number: int) -> None:
    for seed in range(1_000, 1_000 + number):
        await _converse(seed, 300)
