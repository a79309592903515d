"""TLS between a real Envoy and each transport: the certificate is checked, and replaced under load."""

import contextlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from aibrix_extproc.tls.self_signed import make_pair
from tests.dataplane.engines import EngineSpec
from tests.dataplane.stack import Stack, running
from tests.waiting import eventually

pytestmark = pytest.mark.slow

CHAT: dict[str, Any] = {"model": "chat", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}
PACE = {"x-sim-itl-ms": "2"}
_TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"


class TlsStack(Stack):
    """Envoy speaks TLS with ext_proc, and trusts one certificate."""

    def write_envoy_configuration(self, path: Path) -> None:
        super().write_envoy_configuration(path)
        configuration = json.loads(path.read_text())
        clusters = configuration["static_resources"]["clusters"]
        (processors,) = (one for one in clusters if one["name"] == "processors")
        names = [{"san_type": "DNS", "matcher": {"exact": "epp.test"}}]
        trust = {"trusted_ca": {"filename": str(self.directory / "tls.crt")}, "match_typed_subject_alt_names": names}
        context = {"@type": _TLS, "sni": "epp.test", "common_tls_context": {"validation_context": trust}}
        processors["transport_socket"] = {"name": "envoy.transport_sockets.tls", "typed_config": context}
        (readiness,) = processors["health_checks"]
        readiness["tls_options"] = {"alpn_protocols": ["h2"]}  # without it health checks offer nothing
        path.write_text(json.dumps(configuration))

    def write_pair(self) -> None:
        pair = make_pair(["epp.test"])
        (self.directory / "tls.key").write_bytes(pair.key)
        (self.directory / "tls.crt").write_bytes(pair.certificate)


@pytest.fixture(name="secured", params=["grpcio", "lean"])
def run_secured(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TlsStack]:
    options = ("--tls", "files", "--tls-cert", str(tmp_path), "--transport", request.param)
    stack = TlsStack(tmp_path, (EngineSpec("chat", ("chat",)),), serve_arguments=options)
    stack.write_pair()
    with running(stack):
        yield stack


def test_exchanges_pass_over_tls_and_a_certificate_is_replaced_under_them(secured: TlsStack) -> None:
    with secured.client() as client:
        assert client.chat.completions.create(**CHAT).choices[0].message.content
        assert secured.envoy_stats("cluster.processors.ssl.handshake")["cluster.processors.ssl.handshake"] > 0
        with busy(client) as failures:
            secured.write_pair()
            eventually(lambda: replaced(secured), "the gateway has the new certificate")
        assert failures == []
        # Envoy read what it trusts at start: this goes over a connection that the replacement did not touch.
        assert client.chat.completions.create(**CHAT).choices[0].message.content
        assert secured.worker.total("aibrix_extproc_certificate_ok") == 1


def replaced(stack: Stack) -> bool:
    return "certificate was replaced" in stack.worker.child.output()


@contextlib.contextmanager
def busy(client: openai.OpenAI) -> Iterator[list[Exception]]:
    """One stream after another meanwhile; what failed."""
    over, failures = threading.Event(), list[Exception]()

    def ask() -> None:
        while not over.is_set():
            try:
                list(client.chat.completions.create(**CHAT, stream=True, extra_headers=PACE))
            except openai.OpenAIError as error:
                failures.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield failures
    finally:
        over.set()
        asking.join()
