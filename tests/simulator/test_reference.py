"""What docs/openapi.json says of answers is what an engine answers to the reference's own samples."""

import json
from typing import Any

import aiohttp
import pytest

from aibrix_extproc.cli.reference_docs import DOCS
from aibrix_extproc.cli.reference_openapi import openapi_document
from aibrix_extproc.core.openai.contract.operation_rows import OPERATIONS
from aibrix_extproc.core.openai.contract.operations import Action, Operation
from aibrix_extproc.simulator.options import SimulatorOptions, Task
from aibrix_extproc.simulator.server import Simulator
from tests.cli.samples import faults, sent_by

SKIPPED = {"classify_v1"}  # a route that engines lack
ROUTED = tuple(row for row in OPERATIONS if row.action is Action.ROUTE and row.id not in SKIPPED)
ANTHROPIC = {"model": "MODEL", "max_tokens": 8, "messages": [{"role": "user", "content": "Hello"}]}


def request_of(row: Operation) -> tuple[dict[str, str], bytes]:
    """The content type and body of the operation's sample."""
    if row.anthropic:
        return {"content-type": "application/json"}, json.dumps(ANTHROPIC).encode()
    request = sent_by(DOCS[row.id].sdk)
    return {"content-type": request.headers["content-type"]}, request.content


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")  # says the SDK of translations
@pytest.mark.parametrize("row", ROUTED, ids=lambda row: row.id)
async def test_answer_to_a_sample_follows_its_schema(row: Operation, http: aiohttp.ClientSession) -> None:
    document: dict[str, Any] = json.loads(openapi_document())
    task = Task(sorted(row.tasks & set(Task))[-1]) if row.tasks else Task.GENERATE
    headers, body = request_of(row)
    async with (
        Simulator(SimulatorOptions(models=("MODEL",), task=task)) as engine,
        http.post(f"{engine.url}{row.path}", data=body, headers=headers) as answer,
    ):
        assert answer.status == 200, await answer.text()
        said = await answer.json()
    described = document["paths"][row.path]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert faults(document, described, said) == []
