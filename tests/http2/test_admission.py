"""Peers that take more than their share: idle connections, streams that say nothing, streams that wait."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import pytest

from aibrix_extproc.http2.admission import LEAVING, Admission
from aibrix_extproc.http2.listener_limits import ListenerLimits, Refusal
from aibrix_extproc.http2.peer_table import RESERVED_STREAMS, PeerTable, PeerUsage, peer_key
from aibrix_extproc.http2.status import Status
from aibrix_extproc.http2.timeouts import Timeouts
from tests.http2 import wire
from tests.http2.rig import Peer, Served, connected, on_both_loops, serving
from tests.waiting import until

HELLO = wire.message(b"hello")
SILENCE = wire.message(b"silence")  # the answer to it never comes
FAST_CHECKS = Timeouts(handshake_seconds=30.0, linger_seconds=0.1, notice_seconds=0.02, progress_seconds=0.05)
RESOURCE_EXHAUSTED = str(int(Status.RESOURCE_EXHAUSTED))


@contextlib.asynccontextmanager
async def hoard(served: Served, count: int, host: str) -> AsyncIterator[list[Peer]]:
    """Connections of one address that complete the handshake and send nothing more."""
    async with contextlib.AsyncExitStack() as stack:
        peers = []
        before = served.server.connections
        for _ in range(count):
            peers.append(await stack.enter_async_context(connected(served.port, host=host)))
            await until(lambda: served.server.connections == before + len(peers))
        yield peers


async def answered(peer: Peer, stream: int = 1) -> bool:
    peer.say(wire.request(stream), wire.data(stream, HELLO, end=True))
    await peer.hear(lambda: peer.heard.ended(stream))
    return not peer.eof and peer.heard.answer(stream).messages == (b"hello",)


@on_both_loops
async def test_peer_has_no_more_connections_than_its_share_and_others_come_in() -> None:
    async with serving(listener_limits=ListenerLimits(connections=20, connections_of_peer=5)) as served:
        async with hoard(served, 5, "127.0.0.2") as idle:
            async with connected(served.port, host="127.0.0.2", handshake=False) as late:
                await late.hear_all()
                assert late.raw == b""
            assert served.log.refusals == [Refusal.CONNECTIONS_OF_PEER]
            async with connected(served.port, host="127.0.0.3") as other:
                assert await answered(other)
            assert await answered(idle[0])
        await until(lambda: served.server.connections == 0)
        async with connected(served.port, host="127.0.0.2") as again:
            assert await answered(again)


@on_both_loops
async def test_idle_connections_of_the_greediest_make_room_for_others() -> None:
    listener_limits = ListenerLimits(connections=10, connections_of_peer=10)
    async with (
        serving(listener_limits=listener_limits, timeouts=FAST_CHECKS) as served,
        hoard(served, 1, "127.0.0.3") as honest,
        hoard(served, 9, "127.0.0.2") as idle,
        contextlib.AsyncExitStack() as stack,
    ):
        for number in range(4, 8):
            newcomer = await stack.enter_async_context(connected(served.port, host=f"127.0.0.{number}"))
            assert await answered(newcomer)
        assert served.log.refusals == [Refusal.EVICTED] * 4
        for gone in idle[:4]:  # those that were idle for longest
            await gone.hear_all()
            assert gone.eof
        assert await answered(honest[0])
        assert await answered(idle[-1])


@on_both_loops
async def test_greediest_gets_no_place_of_others_however_often_it_comes() -> None:
    async with (
        serving(listener_limits=ListenerLimits(connections=6, connections_of_peer=6)) as served,
        hoard(served, 1, "127.0.0.3") as honest,
        hoard(served, 5, "127.0.0.2"),
    ):
        for _ in range(50):
            async with connected(served.port, host="127.0.0.2", handshake=False) as late:
                await late.hear_all()
                assert late.raw == b""
        assert set(served.log.refusals) == {Refusal.CONNECTIONS}
        assert await answered(honest[0])


@on_both_loops
async def test_connection_with_a_stream_makes_no_room() -> None:
    async with serving(listener_limits=ListenerLimits(connections=2)) as served:
        async with hoard(served, 2, "127.0.0.2") as busy:
            for peer in busy:
                peer.say(wire.request(1), wire.data(1, SILENCE))
            await until(lambda: len(served.log.messages) == 2)
            async with connected(served.port, host="127.0.0.3", handshake=False) as late:
                await late.hear_all()
                assert late.raw == b""
        assert served.log.refusals == [Refusal.CONNECTIONS]


@on_both_loops
async def test_connection_that_is_idle_for_long_is_closed_in_the_orderly_way_and_a_used_one_is_not() -> None:
    async with serving(listener_limits=ListenerLimits(idle_seconds=0.3), timeouts=FAST_CHECKS) as served:
        async with connected(served.port) as idle, connected(served.port) as waiting, connected(served.port) as used:
            waiting.say(wire.request(1), wire.data(1, SILENCE))
            asking = asyncio.ensure_future(keep_asking(used))
            await idle.hear_all()
            assert [one.error_code for one in idle.heard.goaways] == [0, 0]  # GOAWAY twice, with NO_ERROR
            assert not asking.done()
            asking.cancel()
            assert served.log.refusals == [Refusal.IDLE]
            assert not waiting.eof
        assert served.server.running == 0


async def keep_asking(peer: Peer) -> None:
    stream = 1
    while True:
        assert await answered(peer, stream)
        stream += 2


@on_both_loops
async def test_pings_do_not_keep_an_idle_connection() -> None:
    async with (
        serving(listener_limits=ListenerLimits(idle_seconds=0.2), timeouts=FAST_CHECKS) as served,
        connected(served.port) as peer,
    ):

        async def ping() -> None:
            while True:
                peer.say(wire.ping())
                await asyncio.sleep(0.01)

        pinging = asyncio.ensure_future(ping())
        await peer.hear_all()
        pinging.cancel()
        assert served.log.refusals == [Refusal.IDLE]


@on_both_loops
async def test_stream_that_begins_as_its_connection_is_retired_is_still_served() -> None:
    slow = replace(FAST_CHECKS, notice_seconds=30.0)
    async with (
        serving(listener_limits=ListenerLimits(idle_seconds=0.1), timeouts=slow) as served,
        connected(served.port) as peer,
    ):
        await peer.hear(lambda: peer.heard.goaways)
        assert await answered(peer)
        assert served.log.refusals == [Refusal.IDLE]


@pytest.mark.slow
@on_both_loops
async def test_retired_connection_cannot_stay_by_a_stream_that_it_ends_later() -> None:
    slow = replace(FAST_CHECKS, notice_seconds=2.0)  # the stream must begin within it
    async with (
        serving(listener_limits=ListenerLimits(idle_seconds=0.1), timeouts=slow) as served,
        connected(served.port) as peer,
    ):
        await peer.hear(lambda: peer.heard.goaways)
        peer.say(wire.request(1), wire.data(1, SILENCE))
        await until(lambda: served.log.messages == [b"silence"])
        peer.say(wire.reset(1))
        await peer.hear_all()
        await until(lambda: served.server.connections == 0)


@on_both_loops
async def test_streams_are_bounded_for_a_peer_and_for_all() -> None:
    async with (
        serving(listener_limits=ListenerLimits(streams=5, streams_of_peer=3)) as served,
        connected(served.port, host="127.0.0.2") as greedy,
        connected(served.port, host="127.0.0.3") as other,
    ):
        for stream in (1, 3, 5, 7):
            greedy.say(wire.request(stream), wire.data(stream, SILENCE))
        await greedy.hear(lambda: greedy.heard.ended(7))
        assert greedy.heard.answer(7).trailers["grpc-status"] == RESOURCE_EXHAUSTED
        assert await answered(other)
        for stream in (3, 5, 7):
            other.say(wire.request(stream), wire.data(stream, SILENCE))
        await other.hear(lambda: other.heard.ended(7))
        assert served.log.refusals == [Refusal.STREAMS_OF_PEER, Refusal.STREAMS]
        greedy.say(wire.reset(1))
        await until(lambda: served.server.running == 4)
        assert await answered(other, 9)


@on_both_loops
async def test_stream_without_a_message_ends() -> None:
    async with serving(timeouts=FAST_CHECKS) as served, connected(served.port) as peer:
        peer.say(wire.request(1), wire.request(3), wire.data(3, SILENCE))
        await peer.hear(lambda: peer.heard.ended(1))
        assert peer.heard.answer(1).trailers["grpc-status"] == str(int(Status.DEADLINE_EXCEEDED))
        assert served.log.refusals == [Refusal.SILENT]
        assert not peer.heard.ended(3)


@dataclass(eq=False)
class Connection:
    """A connection that leaves when it is aborted only, as one of a peer that reads nothing."""

    usage: PeerUsage
    used_at: float
    running: int = 0
    retired: bool = False
    closed: bool = False

    def retire(self) -> None:
        self.retired = True

    def abort(self) -> None:
        self.closed = True
        self.usage.close_connection()


class Port:
    """An admission with its connections; the clock stands still unless a test moves it."""

    def __init__(self, limits: ListenerLimits) -> None:
        self.refusals: list[Refusal] = []
        self.connections: list[Connection] = []
        self.now = 0.0
        self._admission = Admission(limits, lambda: self.connections, self.refusals.append)

    def come(self, peer: str, running: int = 0) -> bool:
        usage = self._admission.admit(peer, self.now)
        if usage is not None:
            self.connections.append(Connection(usage, self.now, running))
        return usage is not None

    @property
    def open(self) -> int:
        return sum(not one.closed for one in self.connections)


def test_peer_that_comes_again_and_again_takes_no_place_and_no_search_from_others() -> None:
    port = Port(ListenerLimits(connections=100, connections_of_peer=100))
    assert all(port.come("hoarder") for _ in range(100))
    for _ in range(20):
        assert not any(port.come("hoarder") for _ in range(1000))
        assert port.come("honest")
        port.now += 0.0001


def test_evicted_connections_that_stay_are_bounded_and_those_with_streams_are_not_cut() -> None:
    port = Port(ListenerLimits(connections=1000, connections_of_peer=1000))
    assert all(port.come("hoarder") for _ in range(1000))
    assert port.come("peer 0")
    used = next(one for one in port.connections if one.retired)
    used.running = 1
    assert all(port.come(f"peer {number}") for number in range(1, 500))
    assert port.open == 1000 + LEAVING
    assert not used.closed


def test_peer_whose_connections_leave_is_not_asked_for_more_than_others_have() -> None:
    port = Port(ListenerLimits(connections=4))
    assert all(port.come("hoarder") for _ in range(4))
    assert [port.come("second") for _ in range(4)] == [True, True, False, False]
    port.now += 1.0
    assert not port.come("second")


@pytest.mark.parametrize(
    ("address", "peer"),
    [
        (("10.0.0.1", 5), "10.0.0.1"),
        (("::ffff:10.0.0.1", 5, 0, 0), "10.0.0.1"),
        (("2001:db8:1:2:3::4", 5, 0, 0), "2001:db8:1:2::/64"),
        (("fe80::1%eth0", 5, 0, 2), "fe80::/64"),
        (("::1", 5, 0, 0), "::1"),
        ("", "local"),
        (b"", "local"),
    ],
)
def test_peer_is_the_host_behind_an_address(address: object, peer: str) -> None:
    assert peer_key(address) == peer


def test_health_checks_have_streams_of_their_own_when_all_are_taken() -> None:
    peers = PeerTable(ListenerLimits(streams=2, streams_of_peer=2))
    usage = peers.usage_of("p")
    assert [usage.open_stream(b"/x/Process") for _ in range(3)] == [None, None, Refusal.STREAMS]
    health = [usage.open_stream(b"/grpc.health.v1.Health/Check") for _ in range(RESERVED_STREAMS + 1)]
    assert health == [None] * RESERVED_STREAMS + [Refusal.STREAMS]
    for _ in range(RESERVED_STREAMS + 2):
        usage.close_stream()
    assert (peers.streams, usage.streams) == (0, 0)


def test_peers_that_are_gone_are_forgotten() -> None:
    peers = PeerTable(ListenerLimits())
    for number in range(1000):
        usage = peers.usage_of(str(number))
        peers.open_connection(usage)
        usage.close_connection()
    assert not peers._by_peer
    assert peers.connections == 0
