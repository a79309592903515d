"""TLS on both transports: who is served, what is refused and how soon, and a certificate that is replaced."""

import asyncio
import contextlib
import ssl
import warnings
from typing import Any

import grpc
import grpc.aio
import pytest

from aibrix_extproc.tls.credentials import ServerCredentials
from aibrix_extproc.tls.self_signed import make_pair
from tests.adapters.extproc.transports import (
    DEADLINE_SECONDS,
    SERVING,
    Transport,
    check,
    each_transport,
    plain,
    refused,
    running,
    secure,
    watch,
)

SOON_SECONDS = 9.0  # less than a handshake may take


def own() -> ServerCredentials:
    return ServerCredentials(make_pair(["localhost", "127.0.0.1"]))


@each_transport
async def test_client_that_trusts_the_certificate_is_served(transport: Transport) -> None:
    credentials = own()
    async with running(transport, credentials) as it, secure(it.port, credentials.pair.certificate) as channel:
        assert await check(channel) == SERVING


@each_transport
async def test_client_that_trusts_another_certificate_is_not_served(transport: Transport) -> None:
    stranger = make_pair(["localhost"]).certificate
    async with running(transport, own()) as it, secure(it.port, stranger) as channel:
        assert await refused(check(channel)) is grpc.StatusCode.UNAVAILABLE


@each_transport
async def test_health_port_stays_plaintext(transport: Transport) -> None:
    async with running(transport, own()) as it, plain(it.health_port) as channel:
        assert await check(channel) == SERVING


@each_transport
async def test_plaintext_on_the_tls_port_ends_quickly(transport: Transport) -> None:
    async with running(transport, own()) as it:
        async with plain(it.port) as channel:
            assert await refused(check(channel)) is grpc.StatusCode.UNAVAILABLE
        async with asyncio.timeout(SOON_SECONDS):
            reader, writer = await asyncio.open_connection("127.0.0.1", it.port)
            writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9))
            with contextlib.suppress(ConnectionError):
                while await reader.read(1000):
                    pass
            writer.close()


@each_transport
async def test_tls_on_the_plaintext_port_ends_quickly(transport: Transport) -> None:
    async with running(transport) as it:
        async with secure(it.port, own().pair.certificate) as channel:
            assert await refused(check(channel)) is grpc.StatusCode.UNAVAILABLE
        with pytest.raises((ssl.SSLError, ConnectionError)):
            async with asyncio.timeout(SOON_SECONDS):
                await handshake(it.port)


@each_transport
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
async def test_both_newer_versions_of_tls_are_spoken(transport: Transport, version: ssl.TLSVersion) -> None:
    async with running(transport, own()) as it:
        assert await handshake(it.port, minimum=version, maximum=version) == (
            {ssl.TLSVersion.TLSv1_2: "TLSv1.2", ssl.TLSVersion.TLSv1_3: "TLSv1.3"}[version],
            "h2",
        )


@each_transport
async def test_older_versions_of_tls_are_refused(transport: Transport) -> None:
    context = client_context("h2")
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    async with running(transport, own()) as it:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await connect(it.port, context)


@each_transport
@pytest.mark.parametrize("protocols", [(), ("http/1.1",)], ids=["none", "http/1.1"])
async def test_client_without_h2_is_not_served(transport: Transport, protocols: tuple[str, ...]) -> None:
    context = client_context(*protocols)
    async with running(transport, own()) as it, asyncio.timeout(DEADLINE_SECONDS):
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", it.port, ssl=context)
        except (ssl.SSLError, ConnectionError):
            return
        with contextlib.suppress(ssl.SSLError, ConnectionError):
            assert await reader.read(1000) == b""
        writer.close()


@each_transport
async def test_replaced_certificate_is_shown_to_new_connections_and_old_ones_live_on(transport: Transport) -> None:
    credentials = own()
    before, after = credentials.pair, make_pair(["localhost", "127.0.0.1"])
    async with running(transport, credentials) as it, secure(it.port, before.certificate) as old:
        held = watch(old, "liveness")
        assert await held.read() == SERVING
        credentials.replace(after)
        async with secure(it.port, after.certificate) as new:
            assert await check(new) == SERVING
        async with secure(it.port, before.certificate) as late:
            assert await refused(check(late)) is grpc.StatusCode.UNAVAILABLE
        assert await check(old) == SERVING
        assert not held.done()


@each_transport
async def test_replacement_is_shown_to_clients_that_name_no_server(transport: Transport) -> None:
    credentials = own()
    async with running(transport, credentials) as it:
        shown = [await shown_certificate(it.port)]
        credentials.replace(make_pair(["localhost"]))
        shown.append(await shown_certificate(it.port))
        assert shown[1] == ssl.PEM_cert_to_DER_cert(credentials.pair.certificate.decode()) != shown[0]


def client_context(*protocols: str) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


async def connect(port: int, context: ssl.SSLContext) -> Any:
    """The TLS object of a connection, which is closed again."""
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    found = writer.get_extra_info("ssl_object")
    writer.transport.abort()
    return found


async def handshake(
    port: int, *, minimum: ssl.TLSVersion | None = None, maximum: ssl.TLSVersion | None = None
) -> tuple[str | None, str | None]:
    context = client_context("h2")
    context.minimum_version = minimum or context.minimum_version
    context.maximum_version = maximum or context.maximum_version
    found = await connect(port, context)
    return found.version(), found.selected_alpn_protocol()


async def shown_certificate(port: int) -> bytes | None:
    found: bytes | None = (await connect(port, client_context("h2"))).getpeercert(binary_form=True)
    return found
