"""Mutual TLS between a real Envoy and each transport, with authorities that are rotated under load, and strangers."""

import contextlib
import socket
import ssl
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import openai
import pytest

from aibrix_extproc.adapters.envoyproxy.spec import STREAM_FILTER, ProcessorTls
from aibrix_extproc.tls.authority import Authority, Role, make_authority
from tests.dataplane.engines import EngineSpec
from tests.dataplane.stack import Stack, running
from tests.dataplane.test_tls import CHAT, busy
from tests.waiting import eventually

pytestmark = pytest.mark.slow

DAY = timedelta(days=1)
SERVER_NAME, ENVOY_NAME = "processors.test", "envoy.test"


def write_certificates(folder: Path, authority: Authority) -> ProcessorTls:
    server = authority.certify(Role.SERVER, [SERVER_NAME], DAY)
    envoy = authority.certify(Role.CLIENT, [ENVOY_NAME], DAY)
    for name, content in (
        ("tls.crt", server.certificate), ("tls.key", server.key), ("ca.crt", authority.certificate),
        ("envoy.crt", envoy.certificate), ("envoy.key", envoy.key), ("envoy-ca.crt", authority.certificate),
    ):  # fmt: skip
        (folder / name).write_bytes(content)
    return ProcessorTls(folder / "envoy-ca.crt", SERVER_NAME, folder / "envoy.crt", folder / "envoy.key")


@pytest.fixture(name="secured", params=["grpcio", "lean"])
def run_secured(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stack]:
    tls = write_certificates(tmp_path, make_authority("ours", DAY))
    options = (
        "--tls", "files", "--tls-cert", str(tmp_path), "--tls-client-ca", str(tmp_path),
        "--tls-client-name", ENVOY_NAME, "--transport", request.param, "--metering",
    )  # fmt: skip
    envoy: dict[str, Any] = {"processor_tls": tls, "stream_filter": STREAM_FILTER, "access_log_service": True}
    stack = Stack(tmp_path, (EngineSpec("chat", ("chat",)),), serve_arguments=options, envoy_options=envoy)
    with running(stack):
        yield stack


def test_envoy_with_a_certificate_is_served_metered_and_nobody_else_is(secured: Stack) -> None:
    with secured.client() as client:
        assert client.chat.completions.create(**CHAT).choices[0].message.content
    eventually(lambda: secured.worker.total("aibrix_extproc_tokens_total", kind="output") > 0, "tokens are counted")
    assert hello(secured.worker.port, None) == b""
    stranger = make_authority("ours", DAY).certify(Role.CLIENT, [ENVOY_NAME], DAY)
    (secured.directory / "stranger.crt").write_bytes(stranger.certificate)
    (secured.directory / "stranger.key").write_bytes(stranger.key)
    assert hello(secured.worker.port, secured.directory / "stranger") == b""
    assert hello(secured.worker.port, secured.directory / "envoy") != b""


def hello(port: int, pair: Path | None) -> bytes:
    """What a client reads that says hello in TLS and HTTP/2; nothing if it is hung up on."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    if pair is not None:
        context.load_cert_chain(pair.with_suffix(".crt"), pair.with_suffix(".key"))
    with contextlib.suppress(ssl.SSLError, ConnectionError), socket.create_connection(("127.0.0.1", port), 5) as raw:
        sock = context.wrap_socket(raw)
        sock.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0)))
        return sock.recv(1000)
    return b""


def test_authorities_and_certificates_are_rotated_under_load(secured: Stack) -> None:
    """By overlap: trust both, let Envoy change, trust the new one. Envoy's new certificate comes with its restart."""
    ours, folder = (secured.directory / "ca.crt").read_bytes(), secured.directory
    successor = make_authority("next", DAY)
    with secured.client(max_retries=2) as client, busy(client) as failures:
        (folder / "ca.crt").write_bytes(ours + successor.certificate)
        eventually(lambda: replaced(secured) == 1, "both authorities are trusted")
        server = make_authority("other", DAY)  # nothing that Envoy would trust, so its connections must live on
        pair = server.certify(Role.SERVER, [SERVER_NAME], DAY)
        (folder / "tls.crt").write_bytes(pair.certificate)
        (folder / "tls.key").write_bytes(pair.key)
        eventually(lambda: "certificate was replaced" in secured.worker.child.output(), "the certificate is replaced")
        (folder / "ca.crt").write_bytes(successor.certificate)
        eventually(lambda: replaced(secured) == 2, "the old authority is gone")
        assert client.chat.completions.create(**CHAT).choices[0].message.content
    assert failures == []
    assert hello(secured.worker.port, secured.directory / "envoy") == b""  # a new connection is asked by the new rules


def replaced(stack: Stack) -> int:
    return stack.worker.child.output().count("authorities of clients were replaced")


def test_envoy_without_a_certificate_gets_the_json_503(secured: Stack) -> None:
    other = make_authority("theirs", DAY).certify(Role.CLIENT, [ENVOY_NAME], DAY)
    (secured.directory / "envoy.crt").write_bytes(other.certificate)
    (secured.directory / "envoy.key").write_bytes(other.key)
    secured.envoy.kill()
    secured.start_envoy()
    with secured.client() as client, pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(**CHAT)
    assert caught.value.status_code == 503
    assert caught.value.body is not None
