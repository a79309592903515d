"""How many messages an exchange costs: three, however many chunks stream."""

from typing import Any

import pytest

from tests.dataplane.stack import Stack
from tests.waiting import eventually

CHAT: dict[str, Any] = {"model": "chat-m", "messages": [{"role": "user", "content": "hello"}]}
PHASES = "aibrix_extproc_phase_seconds_count"
FINISHED = "aibrix_extproc_exchanges_total"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_exchange_is_three_messages(stack: Stack, stream: bool) -> None:
    worker = stack.worker
    eventually(lambda: worker.total("aibrix_extproc_in_flight") == 0, "nothing of earlier tests runs")
    messages, finished = worker.total(PHASES), worker.total(FINISHED)
    answer = stack.post("/v1/chat/completions", CHAT | {"stream": stream, "max_tokens": 40})
    assert answer.status == 200
    eventually(lambda: worker.total(FINISHED) == finished + 1, "the exchange is over")
    assert worker.total(PHASES) == messages + 3
