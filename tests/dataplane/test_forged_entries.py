"""An attacker at the port, which asks for no certificate here, and entries of the access log that it makes up."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from aibrix_extproc.adapters.accesslog._generated.als_pb2 import StreamAccessLogsMessage
from aibrix_extproc.adapters.accesslog.receive import METHOD
from aibrix_extproc.adapters.accesslog.report import REPORT_KEY, REPORT_NAMESPACE
from aibrix_extproc.adapters.envoyproxy.spec import STREAM_FILTER
from aibrix_extproc.core.openai.contract.headers import EXTPROC_NAMESPACE
from tests.dataplane.engines import EngineSpec
from tests.dataplane.stack import Stack, running
from tests.waiting import eventually

pytestmark = pytest.mark.slow

CHAT: dict[str, Any] = {"model": "chat", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}
REFUSED = "aibrix_extproc_access_log_refused_total"
TOKENS = "aibrix_extproc_tokens_total"


@pytest.fixture(name="metered", params=["grpcio", "lean"])
def run_metered(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stack]:
    envoy: dict[str, Any] = {"stream_filter": STREAM_FILTER, "access_log_service": True}
    options = ("--metering", "--transport", request.param)
    stack = Stack(
        tmp_path, (EngineSpec("chat", ("chat",)),), api_keys=("sk-of-the-test-0001",), serve_arguments=options,
        envoy_options=envoy,
    )  # fmt: skip
    with running(stack):
        yield stack


def tell(stack: Stack, count: int, **notes: str) -> None:
    """What anybody can send who reaches the port: entries with these notes, each of another caller."""
    batch = StreamAccessLogsMessage()
    for number in range(count):
        metadata = batch.http_logs.log_entry.add().common_properties.metadata.filter_metadata
        forged = {
            "request_id": f"r-{number}",
            "model": "chat",
            "caller": f"forged-{number}",
            "operation": "chat_completion",
        }
        metadata[EXTPROC_NAMESPACE].update(forged | notes)
        metadata[REPORT_NAMESPACE].update({REPORT_KEY: f"output_tokens={2**53}"})
    with grpc.insecure_channel(f"127.0.0.1:{stack.worker.port}") as channel:
        call = channel.stream_unary(METHOD)
        with contextlib.suppress(grpc.RpcError):
            call(iter((batch.SerializeToString(),)), timeout=60.0)


def test_forged_entries_charge_nobody_take_no_labels_and_honest_ones_are_counted(metered: Stack) -> None:
    for _ in range(4):
        tell(metered, 5000)
        tell(metered, 1, sealed="A" * 24 + f'[{int(time.time())},1,1,"r-1","chat_completion","chat","key-1",""]')
    eventually(lambda: metered.worker.total(REFUSED) == 4 * 5001, "all are refused")
    assert metered.worker.total(TOKENS) == 0
    with metered.client() as client:
        usage = client.chat.completions.create(**CHAT).usage
    assert usage is not None
    eventually(lambda: metered.worker.total(TOKENS, kind="output") > 0, "the honest one is counted")
    assert metered.worker.total(TOKENS, kind="output", caller="key-1", model="chat") == usage.completion_tokens
    assert {one.labels["caller"] for one in metered.worker.metrics() if one.name == TOKENS} == {"key-1"}
    assert metered.worker.total(REFUSED, reason="forged") == 4
    assert metered.worker.total(REFUSED, reason="unsealed") == 20_000
