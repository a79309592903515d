"""Every engine operation of the simulator answers as real engines did, step by step: tests/recorded/engine_*.jsonl."""

import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from aibrix_extproc.core.operations.table import ROWS
from aibrix_extproc.simulator.options import VERSIONS, SimulatorOptions
from aibrix_extproc.simulator.server import Simulator
from tests.recorded.engine_steps import LORA, STEPS, Step

RECORDED = Path(__file__).parents[1] / "recorded"
OPTIONS = {
    "models": ("meta-llama/tiny", "base2"),
    "profiler": True,
    "tokenizer_info": True,
    "server_load_tracking": True,
}


def recorded(version: str) -> list[dict[str, Any]]:
    lines = (RECORDED / f"engine_{version}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


async def answer(http: aiohttp.ClientSession, url: str, step: Step) -> dict[str, Any]:
    headers = {} if step.body is None else {"content-type": "application/json"}
    body = None if step.body is None else json.dumps(step.body).replace(LORA, "/lora")
    async with http.request(step.method, f"{url}{step.path}", data=body, headers=headers) as got:
        text = (await got.read()).decode()
        return {"step": step.name, "status": got.status, "type": got.headers.get("content-type"), "body": text}


@pytest.mark.parametrize("version", VERSIONS)
async def test_answers_are_those_of_a_real_engine(version: str, http: aiohttp.ClientSession) -> None:
    async with Simulator(SimulatorOptions(version=version, **OPTIONS)) as engine:  # type: ignore[arg-type]
        said = [await answer(http, engine.url, step) for step in STEPS]
    real = recorded(version)
    assert [one["step"] for one in real] == [step.name for step in STEPS], (
        "record again: tests/recorded/record_engine.py"
    )
    for step, ours, theirs in zip(STEPS, said, real, strict=True):
        if step.shape:
            assert set(json.loads(ours["body"])) <= set(json.loads(theirs["body"])), step.name
            ours, theirs = ours | {"body": ""}, theirs | {"body": ""}
        if not step.of_cpu:
            assert ours == theirs


def test_every_operation_was_recorded() -> None:
    asked = {(step.method, step.path.partition("?")[0]) for step in STEPS}
    assert {(row.method, row.path) for row in ROWS} - asked == set()
