"""Which clients get in with mutual TLS, on both transports: attacks with the certificates that an attacker may have."""

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import AsyncIterator
from datetime import timedelta

import grpc
import pytest

from aibrix_extproc.http2.listener_limits import Refusal
from aibrix_extproc.tls.authority import Authority, Role, make_authority
from aibrix_extproc.tls.credentials import KeyPair, ServerCredentials
from aibrix_extproc.tls.peers import allowed, names_of
from aibrix_extproc.tls.self_signed import make_pair
from tests.adapters.extproc.transports import (
    DEADLINE_SECONDS,
    SERVING,
    Running,
    Transport,
    check,
    each_transport,
    mutual,
    plain,
    refused,
    running,
    watch,
)

ALTERNATIVES = (("DNS", "a"), ("URI", "u:b"), ("DirName", "c"))
DAY = timedelta(days=1)
OURS, THEIRS = make_authority("ours", DAY), make_authority("ours", DAY)  # the same name does not help
SERVER = OURS.certify(Role.SERVER, ["localhost"], DAY)
ENVOY = "envoy.gateway.test"


def client(*names: str, authority: Authority = OURS, role: Role = Role.CLIENT) -> KeyPair:
    return authority.certify(role, names or [ENVOY], DAY)


def expired() -> KeyPair:
    return OURS.certify(Role.CLIENT, [ENVOY], timedelta(minutes=-1))


def asking(*names: str, authority: Authority = OURS) -> ServerCredentials:
    return ServerCredentials(SERVER, authority.certificate, names)


@contextlib.asynccontextmanager
async def guarded(transport: Transport, credentials: ServerCredentials) -> AsyncIterator[tuple[Running, list[Refusal]]]:
    refusals: list[Refusal] = []
    async with running(transport, credentials, on_refusal=refusals.append) as it:
        yield it, refusals


async def served(port: int, pair: KeyPair | None) -> bool:
    async with mutual(port, OURS.certificate, pair) as channel:
        try:
            return bool(await check(channel) == SERVING)
        except grpc.aio.AioRpcError as error:
            if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.PERMISSION_DENIED):
                raise
            return False


@each_transport
async def test_client_of_the_authority_is_served(transport: Transport) -> None:
    async with guarded(transport, asking()) as (it, refusals):
        assert await served(it.port, client())
        assert refusals == []


@each_transport
@pytest.mark.parametrize(
    "pair",
    [
        None,
        client(authority=THEIRS),
        expired(),
        client(role=Role.SERVER),  # what every server of the authority has
        make_pair([ENVOY]),
        KeyPair(SERVER.certificate, SERVER.key),
    ],
    ids=["none", "another authority", "expired", "of a server", "self-signed", "our own"],
)
async def test_client_without_a_good_certificate_is_not_served(transport: Transport, pair: KeyPair | None) -> None:
    async with guarded(transport, asking()) as (it, refusals):
        assert not await served(it.port, pair)
        assert await served(it.port, client())
        if transport.__name__ == "LeanTransport":  # grpcio does not tell of handshakes
            assert set(refusals) == {Refusal.CLIENT_CERTIFICATE}


@each_transport
async def test_certificate_of_the_authority_with_another_name_is_not_served(transport: Transport) -> None:
    async with guarded(transport, asking(ENVOY, "spiffe://test/ns/gateways/*")) as (it, refusals):
        for names in (("other.test",), (f"x{ENVOY}",), (f"{ENVOY}.test", "10.0.0.1"), ("spiffe://test/ns/other/sa/x",)):
            assert not await served(it.port, client(*names))
        assert Refusal.CLIENT_CERTIFICATE in refusals
        for names in ((ENVOY,), ("other.test", ENVOY), ("spiffe://test/ns/gateways/sa/envoy",)):
            assert await served(it.port, client(*names))


@each_transport
async def test_plaintext_is_not_served(transport: Transport) -> None:
    async with guarded(transport, asking()) as (it, _), plain(it.port) as channel:
        assert await refused(check(channel)) is grpc.StatusCode.UNAVAILABLE


@each_transport
async def test_health_port_needs_no_certificate(transport: Transport) -> None:
    async with guarded(transport, asking(ENVOY)) as (it, _), plain(it.health_port) as channel:
        assert await check(channel) == SERVING


@each_transport
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
async def test_stranger_is_told_nothing(transport: Transport, version: ssl.TLSVersion, tmp_path: object) -> None:
    """Not even SETTINGS: what a client without a certificate reads is the end of the connection."""
    context = ssl.create_default_context(cadata=OURS.certificate.decode())
    context.set_alpn_protocols(["h2"])
    context.minimum_version = context.maximum_version = version
    async with guarded(transport, asking(ENVOY)) as (it, _), asyncio.timeout(DEADLINE_SECONDS):
        try:
            peer = await asyncio.open_connection("127.0.0.1", it.port, ssl=context, server_hostname="localhost")
        except (ssl.SSLError, ConnectionError):
            return
        reader, writer = peer
        with contextlib.suppress(ssl.SSLError, ConnectionError):
            assert await reader.read(1000) == b""
        writer.close()


@each_transport
async def test_authorities_are_rotated_by_overlap_while_connections_live(transport: Transport) -> None:
    credentials = asking()
    old, new = client(), client(authority=THEIRS)
    async with guarded(transport, credentials) as (it, _), mutual(it.port, OURS.certificate, old) as held:
        watching = watch(held, "liveness")
        assert await watching.read() == SERVING
        assert not await served(it.port, new)
        credentials.trust(OURS.certificate + THEIRS.certificate)
        assert await served(it.port, old)
        assert await served(it.port, new)
        credentials.trust(THEIRS.certificate)
        assert not await served(it.port, old)
        assert await served(it.port, new)
        assert await check(held) == SERVING  # nothing that is there is cut
        assert not watching.done()


@each_transport
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
async def test_session_does_not_outlive_the_authority(transport: Transport, version: ssl.TLSVersion) -> None:
    """Resuming a session skips the check of certificates."""
    credentials = asking()
    pair = client()
    async with guarded(transport, credentials) as (it, _):
        session = await asyncio.to_thread(resumed, it.port, pair, version, None)
        credentials.trust(THEIRS.certificate)
        assert not await served(it.port, pair)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.to_thread(resumed, it.port, pair, version, session)


def resumed(
    port: int, pair: KeyPair, version: ssl.TLSVersion, session: tuple[ssl.SSLContext, ssl.SSLSession | None] | None
) -> tuple[ssl.SSLContext, ssl.SSLSession | None]:
    """Say hello and hear of the server, with a session of before if there is one; the session."""
    if session is None:
        from aibrix_extproc.tls.credentials import _as_file

        context = ssl.create_default_context(cadata=OURS.certificate.decode())
        context.set_alpn_protocols(["h2"])
        context.minimum_version = context.maximum_version = version
        with _as_file(pair.certificate) as certificate, _as_file(pair.key) as key:
            context.load_cert_chain(certificate, key)
    else:
        context = session[0]
    with (
        socket.create_connection(("127.0.0.1", port), DEADLINE_SECONDS) as raw,
        context.wrap_socket(
            raw, server_hostname="localhost", session=session[1] if session is not None else None
        ) as sock,
    ):
        sock.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0)))
        if not sock.recv(1000):
            raise ConnectionError
        return context, sock.session


@each_transport
async def test_refused_handshakes_are_logged_seldom(transport: Transport, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with guarded(transport, asking(ENVOY)) as (it, _):
        for _ in range(30):
            assert not await served(it.port, client("other.test"))
        assert len(caplog.records) <= 20


def test_names_are_alternative_names_or_else_the_common_name() -> None:
    subject = ((("organizationName", "x"),), (("commonName", "envoy"),))
    assert names_of({"subject": subject}) == ("envoy",)
    assert names_of({"subject": subject, "subjectAltName": ALTERNATIVES}) == (
        "a",
        "u:b",
    )
    assert names_of({}) == ()


@pytest.mark.parametrize(
    ("rules", "expected"),
    [((), True), (("a.test",), True), (("b", "a.test"), True), (("a.*",), True), (("*",), True), (("a",), False),
     (("a.test.",), False), (("A.test",), False), (("*.test",), False), (("",), False)],
)  # fmt: skip
def test_rule_is_a_name_or_the_beginning_of_one(rules: tuple[str, ...], expected: bool) -> None:
    assert allowed(["a.test"], rules) is expected
    assert allowed([], rules) is (not rules)
