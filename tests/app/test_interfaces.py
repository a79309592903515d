"""Acceptance 7.14, IF-05: interfaces follow the fleet, and limits of models stand with the models."""

import json
from collections.abc import Awaitable
from dataclasses import replace
from typing import Any

from aibrix_extproc.app.interfaces import Interfaces
from aibrix_extproc.core.exchange.asks import Describe, Described
from aibrix_extproc.core.fleet.model import Endpoint, Health, ServedModel, Snapshot, Task, snapshot_of
from aibrix_extproc.core.openai.contract.operation_rows import OPERATIONS
from aibrix_extproc.core.placing import ANYONE, Caller

ROW = next(row for row in OPERATIONS if row.id == "retrieve_interface")
CHAT = frozenset({Task.GENERATE})
OLD = Endpoint(
    "a",
    "10.0.0.1:8000",
    models=(ServedModel("m", None, 4096),),
    tasks=CHAT,
    health=Health.READY,
    engine_version="0.32.0",
)


class Limited:
    def allowed(self, _: Caller, model: str = "", *, soft: bool = False) -> dict[str, float]:
        return {} if soft else {"requests_per_minute": 6} if model else {"requests_per_minute": 60}


async def told(interfaces: Interfaces) -> tuple[dict[str, Any], str]:
    """The interface of chats, and its entity tag."""
    waiting = interfaces.describe(Describe(ROW, {"interface_id": "chat_completion"}, ANYONE))
    assert isinstance(waiting, Awaitable)
    answer = await waiting
    assert isinstance(answer, Described)
    return json.loads(answer.body), dict(answer.headers)["etag"]


async def test_if_05_a_new_version_of_an_engine_shows_with_the_next_snapshot() -> None:
    fleet: list[Snapshot] = [snapshot_of((OLD,), version=1)]
    interfaces = Interfaces(lambda: fleet[-1], Limited())
    before, tag = await told(interfaces)
    assert await told(interfaces) == (before, tag)
    new = replace(OLD, identity="b", address="10.0.0.2:8000", engine_version="0.33.0")
    fleet.append(snapshot_of((OLD, new), version=2))
    after, other = await told(interfaces)
    assert [one["version"] for one in before["engines"]] == ["0.32.0"]
    assert [one["version"] for one in after["engines"]] == ["0.32.0", "0.33.0"]
    assert other != tag
    fields = after["input_schema"]["$defs"]["openai.ChatCompletionRequest"]["properties"]
    assert {tuple(field["x-vllm"]) for field in fields.values()} >= {("0.32", "0.33"), ("0.33",)}


async def test_limits_of_a_model_stand_with_the_model() -> None:
    found, _ = await told(Interfaces(lambda: snapshot_of((OLD,), version=1), Limited()))
    assert found["limits"]["requests_per_minute"] == 60
    assert found["models"] == [
        {"id": "m", "tasks": ["generate"], "max_model_len": 4096, "limits": {"requests_per_minute": 6}}
    ]
