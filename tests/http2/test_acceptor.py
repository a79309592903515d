"""Who comes in: the bound on connections, TLS, handshakes that are not finished, a system that has no room."""

import asyncio
import contextlib
import os
import resource
import shutil
import socket
import ssl
import subprocess
from pathlib import Path

import pytest

from aibrix_extproc.http2 import acceptor
from aibrix_extproc.http2.listener_limits import ListenerLimits, Refusal
from aibrix_extproc.http2.peer_table import PeerTable, PeerUsage
from aibrix_extproc.http2.timeouts import Timeouts
from aibrix_extproc.tls.credentials import KeyPair, ServerCredentials
from tests.http2 import wire
from tests.http2.rig import DEADLINE_SECONDS, IMPATIENT, QUICK, connected, on_both_loops, serving
from tests.waiting import until


def a_usage(peer: str) -> PeerUsage:
    peers = PeerTable(ListenerLimits())
    usage = peers.usage_of(peer)
    peers.open_connection(usage)
    return usage


HELLO = wire.message(b"hello")
SLOW = Timeouts(handshake_seconds=600.0, linger_seconds=0.1, notice_seconds=0.02)


@on_both_loops
async def test_connections_over_the_bound_are_closed_unheard_and_that_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with serving(listener_limits=ListenerLimits(connections=1)) as served, connected(served.port) as first:
        await until(lambda: served.server.connections == 1)
        for _ in range(3):
            async with connected(served.port, handshake=False) as peer:
                await peer.hear_all()
                assert peer.raw == b""
        assert [one.message for one in caplog.records] == ["too many connections, new ones are closed"]
        first.say(wire.request(1), wire.data(1, HELLO, end=True))
        await first.hear(lambda: first.heard.ended(1))
        assert first.heard.answer(1).messages == (b"hello",)
    await until(lambda: served.server.connections == 0)


@on_both_loops
async def test_as_many_connections_as_may_be_come_in_even_if_all_come_at_once() -> None:
    async with serving(listener_limits=ListenerLimits(connections=50)) as served, contextlib.AsyncExitStack() as stack:
        comings = (stack.enter_async_context(connected(served.port)) for _ in range(50))
        peers = await asyncio.gather(*comings)
        for peer in peers:
            peer.say(wire.request(1), wire.data(1, HELLO, end=True))
            await peer.hear(lambda: peer.heard.ended(1))  # noqa: B023 (it is awaited here)
            assert peer.heard.answer(1).messages == (b"hello",)


@on_both_loops
async def test_lack_of_descriptors_holds_connections_up_and_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as served, connected(served.port) as first:
        await until(lambda: served.server.connections == 1)
        usual = resource.getrlimit(resource.RLIMIT_NOFILE)
        with socket.socket() as late:
            late.setblocking(False)
            free = os.dup(late.fileno())
            os.close(free)
            resource.setrlimit(resource.RLIMIT_NOFILE, (free, usual[1]))
            try:
                await asyncio.get_running_loop().sock_connect(late, ("127.0.0.1", served.port))
                await until(lambda: "connections cannot be taken" in caplog.text)
                first.say(wire.request(1), wire.data(1, HELLO, end=True))
                await first.hear(lambda: first.heard.ended(1))
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, usual)
            await until(lambda: served.server.connections == 2)
    assert len(caplog.records) == 1


@on_both_loops
async def test_handshakes_that_are_not_finished_count_as_connections(certificate: tuple[Path, Path]) -> None:
    client = client_side(certificate, "h2")
    tls = server_side(certificate)
    async with (
        serving(tls=tls, listener_limits=ListenerLimits(connections=3), timeouts=SLOW) as served,
        contextlib.AsyncExitStack() as stack,
    ):
        address = ("127.0.0.1", served.port)
        silent = [stack.enter_context(socket.create_connection(address)) for _ in range(3)]
        with pytest.raises((ConnectionError, ssl.SSLError)):
            await stack.enter_async_context(connected(served.port, client))
        for one in silent[:2]:
            one.close()
        await until(lambda: served.server.arriving <= 1)
        peer = await stack.enter_async_context(connected(served.port, client))
        peer.say(wire.request(1), wire.data(1, HELLO, end=True))
        await peer.hear(lambda: peer.heard.ended(1))
        silent[2].close()
        await until(lambda: served.server.arriving == 0)
        assert served.server.connections == 1


@on_both_loops
async def test_handshakes_that_another_peer_does_not_finish_make_room(certificate: tuple[Path, Path]) -> None:
    async with (
        serving(tls=server_side(certificate), listener_limits=ListenerLimits(connections=3), timeouts=SLOW) as served,
        contextlib.AsyncExitStack() as stack,
    ):
        for number in range(3):
            stack.enter_context(socket.create_connection(("127.0.0.1", served.port), source_address=("127.0.0.2", 0)))
            await until(lambda: served.server.arriving == number + 1)  # noqa: B023 (it is awaited here)
        peer = await stack.enter_async_context(connected(served.port, client_side(certificate, "h2")))
        peer.say(wire.request(1), wire.data(1, HELLO, end=True))
        await peer.hear(lambda: peer.heard.ended(1))
        assert served.log.refusals == [Refusal.EVICTED]
        await until(lambda: served.server.arriving == 2)


@on_both_loops
async def test_handshake_that_is_under_way_at_the_end_is_ended(certificate: tuple[Path, Path]) -> None:
    async with serving(tls=server_side(certificate), timeouts=SLOW) as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        await until(lambda: served.server.arriving == 1)
        await served.server.drain(0.0)
        async with asyncio.timeout(60):
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
        writer.close()
        assert served.server.arriving == 0


@on_both_loops
async def test_mistake_while_a_connection_comes_in_is_logged_and_the_next_one_comes_in(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acceptor, "PAUSE_SECONDS", 0.01)
    mistakes = [MemoryError(), ValueError()]
    protocols: list[asyncio.Protocol] = []

    def admit(peer: str) -> PeerUsage:
        if mistakes:
            raise mistakes.pop()
        return a_usage(peer)

    def new_protocol(_: PeerUsage) -> asyncio.Protocol:
        protocols.append(asyncio.Protocol())
        return protocols[-1]

    listener = socket.create_server(("127.0.0.1", 0))
    entrance = acceptor.Acceptor(new_protocol, admit, lambda _: None, QUICK, None)
    entrance.open([listener])
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(socket.create_connection(listener.getsockname()))
        await until(lambda: protocols and not entrance.arriving)
        assert [one.message for one in caplog.records] == 2 * ["internal error while a connection came in"]
    entrance.close()
    await until(lambda: listener.fileno() < 0)


async def test_peer_that_comes_while_handshakes_are_cancelled_is_closed() -> None:
    listener = socket.create_server(("127.0.0.1", 0))

    def last_protocol(_: PeerUsage) -> asyncio.Protocol:
        asyncio.get_running_loop().call_soon(entrance.cancel_handshakes)
        entrance.close()
        return asyncio.Protocol()

    entrance = acceptor.Acceptor(last_protocol, a_usage, lambda _: None, QUICK, None)
    with socket.create_connection(listener.getsockname()) as peer:
        peer.setblocking(False)
        entrance.open([listener])
        async with asyncio.timeout(60):
            assert await asyncio.get_running_loop().sock_recv(peer, 1) == b""
        assert not entrance.arriving
    await until(lambda: listener.fileno() < 0)


async def test_crowd_of_new_connections_leaves_the_loop_its_turns() -> None:
    listener = socket.create_server(("127.0.0.1", 0), backlog=100)
    turns: list[int] = []
    asked = 0

    def admit(_: str) -> None:
        nonlocal asked
        asked += 1
        asyncio.get_running_loop().call_soon(lambda: turns.append(asked))

    with contextlib.ExitStack() as stack:
        for _ in range(50):
            stack.enter_context(socket.create_connection(listener.getsockname()))
        entrance = acceptor.Acceptor(lambda _: asyncio.Protocol(), admit, lambda _: None, QUICK, None)
        entrance.open([listener])
        await until(lambda: len(turns) == 50)
    assert turns == list(range(1, 51))
    entrance.close()
    await until(lambda: listener.fileno() < 0)


# ---- TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs the openssl command to make a certificate: install the package openssl")
    folder = tmp_path_factory.mktemp("tls")
    key, crt = folder / "key.pem", folder / "crt.pem"
    subprocess.run(
        (
            *(openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
            *("-keyout", key, "-out", crt),
        ),
        check=True,
        capture_output=True,
    )
    return key, crt


def server_side(certificate: tuple[Path, Path]) -> ServerCredentials:
    key, crt = certificate
    return ServerCredentials(KeyPair(crt.read_bytes(), key.read_bytes()))


def client_side(certificate: tuple[Path, Path], *protocols: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=certificate[1])
    context.check_hostname = False
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


@on_both_loops
async def test_tls_with_h2_is_served_and_ends_in_order(certificate: tuple[Path, Path]) -> None:
    client = client_side(certificate, "h2", "http/1.1")
    async with serving(tls=server_side(certificate)) as served, connected(served.port, client) as peer:
        peer.say(wire.request(1), wire.data(1, wire.message(bytes(300_000)), end=True)[:20])
        peer.say(wire.data(1, wire.message(bytes(300_000)), end=True)[20:])
        peer.say(wire.window_update(1, 10**6), wire.window_update(0, 10**6))
        await peer.hear(lambda: peer.heard.ended(1))
        assert peer.heard.answer(1).messages == (bytes(300_000),)
        peer.say(wire.raw(0, 0, 0))
        await peer.hear_all()
        assert peer.heard.goaway() == wire.PROTOCOL_ERROR


@on_both_loops
@pytest.mark.parametrize("protocols", [(), ("http/1.1",)])
async def test_tls_without_h2_is_not_served(certificate: tuple[Path, Path], protocols: tuple[str, ...]) -> None:
    client = client_side(certificate, *protocols)
    async with serving(tls=server_side(certificate)) as served, connected(served.port, client) as peer:
        await peer.hear_all()
        assert peer.raw == b""
        assert served.server.connections == 0


@on_both_loops
@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01"], ids=["nothing", "the beginning of a handshake"])
async def test_peer_that_does_not_finish_its_handshake_is_gone_after_the_patience(
    certificate: tuple[Path, Path], said: bytes
) -> None:
    async with serving(tls=server_side(certificate), timeouts=IMPATIENT) as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(said)
        async with asyncio.timeout(DEADLINE_SECONDS):
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
        writer.close()


@on_both_loops
async def test_plaintext_on_the_tls_port_is_not_served(certificate: tuple[Path, Path]) -> None:
    async with serving(tls=server_side(certificate)) as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(wire.CLIENT_PREFACE + wire.request(1))
        async with asyncio.timeout(60):
            while await reader.read(1000):
                pass
        writer.close()
        assert served.log.opened == 0
