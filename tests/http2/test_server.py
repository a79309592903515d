"""The server on real sockets: peers that speak something else, vanish, do not read, or flood; TLS; the orderly end."""

import asyncio
import contextlib
import functools
import socket
import ssl
from dataclasses import replace

import pytest

from aibrix_extproc.http2.handler import CallOutcome
from aibrix_extproc.http2.limits import MIB, ConnectionLimits
from aibrix_extproc.http2.server import CLOSED_LINES
from tests.http2 import wire
from tests.http2.rig import DEADLINE_SECONDS, IMPATIENT, QUICK, connected, on_both_loops, serving
from tests.waiting import until

HELLO = wire.message(b"hello")


@on_both_loops
async def test_http1_on_the_port_is_told_goodbye_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as served, connected(served.port, handshake=False) as peer:
        peer.say(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        await peer.hear_all()
        assert peer.heard.goaway() == wire.PROTOCOL_ERROR
        assert "HTTP/1 on a port for gRPC" in caplog.text


@on_both_loops
async def test_tls_on_the_plaintext_port_is_told_goodbye_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as served:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            async with connected(served.port, ssl.create_default_context()):
                raise AssertionError("no TLS is spoken here")
        await until(lambda: "TLS on a port without it" in caplog.text)


@on_both_loops
async def test_silent_connection_is_closed_after_the_patience() -> None:
    async with serving(timeouts=IMPATIENT) as served, connected(served.port, handshake=False) as peer:
        await peer.hear_all()
        assert peer.heard.goaway() == wire.NO_ERROR
        await until(lambda: served.server.connections == 0)


@on_both_loops
async def test_greeted_connection_may_be_silent() -> None:
    patience = replace(QUICK, handshake_seconds=1.0)  # a stalled test can still greet within it
    async with serving(timeouts=patience) as served, connected(served.port) as peer:
        await asyncio.sleep(1.5 * patience.handshake_seconds)
        peer.say(wire.request(1), wire.data(1, HELLO, end=True))
        await peer.hear(lambda: peer.heard.ended(1))
        assert peer.heard.answer(1).messages == (b"hello",)


@on_both_loops
@pytest.mark.parametrize("how", ["fin", "rst"])
async def test_peer_that_goes_away_cancels_its_calls(how: str) -> None:
    async with serving() as served, connected(served.port) as peer:
        peer.say(*(wire.request(stream) + wire.data(stream, wire.message(b"wait")) for stream in (1, 3, 5)))
        await until(lambda: len(served.log.messages) == 3)
        if how == "rst":
            peer.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        peer.writer.close()
        await until(lambda: len(served.log.outcomes) == 3)
        assert set(served.log.outcomes) == {CallOutcome.CANCELLED}
        await until(lambda: served.server.connections == 0)
        assert served.server.running == 0


@on_both_loops
async def test_peer_that_vanishes_without_a_word_is_noticed_by_the_kernel() -> None:
    """Nothing can be unplugged here, so this looks at what the kernel was told to do about it."""
    async with serving() as served, connected(served.port):
        await until(lambda: served.server.connections == 1)
        (protocol,) = served.server._protocols
        assert protocol._transport is not None
        sock = protocol._transport.get_extra_info("socket")
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 15
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000


@on_both_loops
async def test_flooder_hears_why_and_others_are_served_meanwhile() -> None:
    async with serving() as served, connected(served.port) as bad, connected(served.port) as good:
        bad.say(wire.ping() * 200_000)
        for stream in range(1, 21, 2):
            good.say(wire.request(stream), wire.data(stream, HELLO, end=True))
            await good.hear(functools.partial(good.heard.ended, stream))
            assert good.heard.answer(stream).messages == (b"hello",)
        await bad.hear_all()
        assert bad.heard.goaway() == wire.CALM


@on_both_loops
async def test_peer_that_floods_with_real_work_does_not_starve_others() -> None:
    async with serving() as served, connected(served.port) as busy, connected(served.port) as good:
        busy.say(wire.request(1), wire.window_update(0, 2**30), wire.window_update(1, 2**30))
        busy.say(wire.data(1, wire.message(b"silence")) * 20_000)
        good.say(wire.request(1), wire.data(1, HELLO, end=True))
        await good.hear(lambda: good.heard.ended(1))
        assert len(served.log.messages) < 20_000
        await until(lambda: len(served.log.messages) == 20_001)


@on_both_loops
async def test_slow_reader_is_not_read_from_and_takes_bounded_memory() -> None:
    limits = ConnectionLimits(connection_window=256 * MIB, stream_window=256 * MIB)
    async with serving(limits) as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port, limit=1)
        writer.write(wire.CLIENT_PREFACE + wire.window_update(0, 2**31 - 1 - 65_535) + wire.settings({4: 2**31 - 1}))
        writer.write(wire.request(1))
        say = wire.raw(0, 0, 1, wire.message(bytes(500_000)))
        for _ in range(100):
            writer.write(say)
        await until(lambda: served.server.connections == 1)
        (protocol,) = served.server._protocols
        await until(lambda: protocol._blocked)
        await asyncio.sleep(0.1)
        assert protocol._transport is not None
        assert protocol._transport.get_write_buffer_size() < 16 * MIB
        assert len(served.log.messages) < 60
        writer.transport.abort()
        await until(lambda: served.server.connections == 0)
        assert served.log.outcomes == [CallOutcome.CANCELLED]
        del reader


@on_both_loops
async def test_slow_reader_is_not_answered_what_it_has_already_asked() -> None:
    """Thirty thousand messages in one window: each turn would add to what waits for the peer."""
    limits = ConnectionLimits(connection_window=256 * MIB, stream_window=256 * MIB)
    async with serving(limits) as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port, limit=1)
        writer.write(wire.CLIENT_PREFACE + wire.window_update(0, 2**31 - 1 - 65_535) + wire.settings({4: 2**31 - 1}))
        writer.write(wire.request(1))
        for _ in range(30):
            writer.write(wire.raw(0, 0, 1, wire.message(bytes(1_000)) * 1_000))
        await until(lambda: served.server.connections == 1)
        (protocol,) = served.server._protocols
        await until(lambda: protocol._blocked)
        answered = -1
        while answered != len(served.log.messages):
            answered = len(served.log.messages)
            await asyncio.sleep(0.1)
        assert protocol._transport is not None
        assert protocol._transport.get_write_buffer_size() < 8 * MIB
        assert answered < 30_000
        while len(served.log.messages) < 30_000:  # it takes them after all
            assert await reader.read(2**20)
        writer.transport.abort()
        await until(lambda: served.server.connections == 0)


@on_both_loops
async def test_last_word_to_a_peer_that_does_not_read_waits_for_the_patience_only() -> None:
    async with serving() as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(wire.CLIENT_PREFACE + wire.raw(0, 0, 0))
        await until(lambda: served.server.connections == 1)
        await until(lambda: served.server.connections == 0)
        writer.transport.abort()
        del reader


@on_both_loops
async def test_unfinished_messages_of_all_connections_together_are_bounded() -> None:
    said = wire.request(1) + wire.data(1, (900_000).to_bytes(5, "big")) + wire.raw(0, 0, 1, bytes(600_000))
    async with serving(ConnectionLimits(buffered_bytes=1 * MIB)) as served, connected(served.port) as first:
        first.say(said)
        await until(lambda: served.server.buffered == 600_000)
        async with connected(served.port) as second:
            second.say(said)
            await second.hear(lambda: second.heard.ended(1))
            assert second.heard.answer(1).trailers["grpc-status"] == "8"
            assert served.server.buffered == 600_000
        first.say(wire.data(1, bytes(300_000), end=True))
        await until(lambda: served.log.messages == [bytes(900_000)])
        assert served.server.buffered == 0


@on_both_loops
async def test_answers_that_peers_of_all_connections_do_not_take_are_bounded_at_the_cost_of_the_worst() -> None:
    limits = ConnectionLimits(unsent_bytes_together=1 * MIB, stream_window=MIB)
    async with contextlib.AsyncExitStack() as stack:
        served = await stack.enter_async_context(serving(limits))
        peers = [await stack.enter_async_context(connected(served.port)) for _ in range(3)]
        for count, (peer, size) in enumerate(zip(peers, (700_000, 300_000, 200_000), strict=True), start=1):
            peer.say(wire.settings({4: 0}), wire.request(1), wire.data(1, wire.message(bytes(size))))
            await until(lambda: len(served.log.messages) == count)  # noqa: B023 (it is awaited here)
        await peers[0].hear_all()
        assert served.log.outcomes == [CallOutcome.CANCELLED]
        assert served.server.connections == 2
        assert 500_000 < served.server.memory.unsent < 510_000
        for peer in peers[1:]:
            peer.say(wire.window_update(0, MIB), wire.window_update(1, MIB), wire.data(1, end=True))
            await peer.hear(lambda: peer.heard.ended(1))  # noqa: B023
        assert [sum(map(len, peer.heard.answer(1).messages)) for peer in peers[1:]] == [300_000, 200_000]
        await until(lambda: served.server.memory.unsent < 1_000)


@on_both_loops
async def test_answers_that_lie_in_buffers_of_sockets_count_as_not_taken() -> None:
    limits = ConnectionLimits(unsent_bytes_together=2 * MIB)
    async with serving(limits) as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port, limit=1)  # reads nothing after that
        writer.write(wire.CLIENT_PREFACE + wire.settings({4: 2**31 - 1}) + wire.window_update(0, 2**30))
        for stream in range(1, 101, 2):
            writer.write(wire.request(stream) + wire.data(stream, wire.message(bytes(900_000))))
        await until(lambda: served.log.outcomes)
        await until(lambda: served.server.connections == 0)
        assert served.server.memory.unsent == 0
        writer.transport.abort()
        del reader


@on_both_loops
async def test_peer_that_takes_no_answers_and_then_breaks_the_protocol_is_closed_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    mishaps: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, mishap: mishaps.append(mishap))
    async with serving(ConnectionLimits(unsent_bytes_together=1 * MIB)) as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port, limit=1)  # reads nothing after that
        writer.write(
            wire.CLIENT_PREFACE + wire.settings({4: 2**31 - 1}) + wire.window_update(0, 2**30) + wire.request(1)
        )
        while served.server.memory.unsent < MIB - 50_000:  # more than the socket takes, but not too much
            heard = len(served.log.messages)
            writer.write(wire.data(1, wire.message(bytes(16_000))))
            await until(lambda: len(served.log.messages) > heard)  # noqa: B023 (it is awaited here)
        writer.write(b"".join(wire.data(1, wire.message(bytes(16_000))) for _ in range(6)) + wire.raw(0, 0, 0))
        await until(lambda: served.server.connections == 0)
        assert served.server.memory.unsent == 0
        writer.transport.abort()
        del reader
    assert not mishaps
    assert len(caplog.records) == 1


@on_both_loops
async def test_peer_that_comes_back_with_nonsense_again_and_again_fills_no_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with serving() as served:
        for _ in range(2 * CLOSED_LINES):
            async with connected(served.port, handshake=False) as peer:
                peer.say(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
                await peer.hear_all()
    assert len(caplog.records) == CLOSED_LINES
    assert {one.message for one in caplog.records} == {"connection closed: this is HTTP/1 on a port for gRPC"}


# ---- the orderly end


@on_both_loops
async def test_drain_lets_running_calls_finish_and_refuses_new_ones() -> None:
    async with serving() as served, connected(served.port) as peer:
        peer.say(wire.request(1), wire.data(1, wire.message(b"wait")))
        await until(lambda: served.log.messages)
        drain = asyncio.create_task(served.server.drain(DEADLINE_SECONDS))
        await peer.hear(lambda: len(peer.heard.goaways) == 2)
        peer.say(wire.request(3), wire.data(3, HELLO))
        await peer.hear(lambda: peer.heard.reset_of(3) is not None)
        assert peer.heard.reset_of(3) == wire.REFUSED_STREAM
        assert not drain.done()
        served.log.gate.set()
        peer.say(wire.data(1, end=True))
        await peer.hear(lambda: peer.heard.ended(1))
        assert peer.heard.answer(1).messages == (b"waited",)
        assert peer.heard.answer(1).trailers == {"grpc-status": "0"}
        await peer.hear_all()
        assert peer.heard.goaway() == wire.NO_ERROR
        peer.writer.close()
        await drain
        assert served.server.connections == 0


@on_both_loops
async def test_drain_cuts_what_is_left_when_its_time_is_up() -> None:
    async with serving() as served, connected(served.port) as peer:
        peer.say(wire.request(1), wire.data(1, wire.message(b"wait")))
        await until(lambda: served.log.messages)
        await served.server.drain(0.05)
        await peer.hear_all()
        assert peer.heard.answer(1).trailers["grpc-status"] == "14"
        assert served.log.outcomes == [CallOutcome.FAILED]


@on_both_loops
async def test_drain_waits_for_an_answer_that_the_peer_has_not_taken_yet() -> None:
    async with serving() as served, connected(served.port) as peer:
        peer.say(wire.settings({4: 0}), wire.request(1), wire.data(1, HELLO, end=True))
        await until(lambda: served.log.outcomes)
        drain = asyncio.create_task(served.server.drain(DEADLINE_SECONDS))
        await peer.hear(lambda: len(peer.heard.goaways) == 2)
        assert not drain.done()
        peer.say(wire.window_update(1, 1000))
        await peer.hear(lambda: peer.heard.ended(1))
        assert peer.heard.answer(1).messages == (b"hello",)
        peer.writer.close()
        await drain


@on_both_loops
async def test_drain_ends_at_once_when_the_peer_cancels_the_last_call() -> None:
    async with serving() as served, connected(served.port) as peer:
        peer.say(wire.request(1), wire.data(1, wire.message(b"wait")))
        await until(lambda: served.log.messages)
        drain = asyncio.create_task(served.server.drain(600.0))
        await peer.hear(lambda: len(peer.heard.goaways) == 2)
        peer.say(wire.reset(1))
        async with asyncio.timeout(60):
            await drain
        assert served.log.outcomes == [CallOutcome.CANCELLED]


@on_both_loops
async def test_drain_under_load_serves_every_stream_up_to_its_last_one_and_refuses_the_rest_unheard() -> None:
    """Two hundred calls that run, and new ones all the time, before, between and after the two steps."""
    async with serving() as served, connected(served.port) as peer:
        running = range(1, 401, 2)
        peer.say(*(wire.request(stream) + wire.data(stream, wire.message(b"wait")) for stream in running))
        await until(lambda: len(served.log.messages) == len(running))
        drain = asyncio.create_task(served.server.drain(DEADLINE_SECONDS))
        stream = running[-1]
        while len(peer.heard.goaways) < 2 or stream < peer.heard.goaways[-1].last_stream_id + 40:
            stream += 2
            peer.say(wire.request(stream), wire.data(stream, HELLO, end=True))
            await peer.hear(functools.partial(peer.heard.over, stream))
        first, second = (one.last_stream_id for one in peer.heard.goaways)
        assert (first, drain.done()) == (2**31 - 1, False)
        served.log.gate.set()
        peer.say(*(wire.data(stream, end=True) for stream in running))
        await peer.hear_all()
        served_streams = range(running[-1] + 2, second + 1, 2)
        assert {peer.heard.answer(one).messages for one in running} == {(b"waited",)}
        assert {peer.heard.answer(one).messages for one in served_streams} == {(b"hello",)}
        assert {peer.heard.reset_of(one) for one in range(second + 2, stream + 1, 2)} == {wire.REFUSED_STREAM}
        assert served.log.opened == len(running) + len(served_streams) > len(running)
        assert set(served.log.outcomes) == {CallOutcome.COMPLETED}
        peer.writer.close()
        await drain


@on_both_loops
async def test_connection_that_comes_during_the_drain_is_told_so() -> None:
    async with serving() as served:
        served.server.draining = True  # as between the accept of the kernel and ours
        async with connected(served.port) as peer:
            peer.say(wire.request(1))
            await peer.hear(lambda: peer.heard.reset_of(1) is not None)
            assert peer.heard.goaway() == wire.NO_ERROR
            assert peer.heard.reset_of(1) == wire.REFUSED_STREAM


@on_both_loops
async def test_drain_without_connections_is_quick() -> None:
    async with serving() as served:
        async with asyncio.timeout(DEADLINE_SECONDS):
            await served.server.drain(600.0)
