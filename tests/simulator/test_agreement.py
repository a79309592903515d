"""The simulator does with fields what a real engine did: it takes and refuses the same values, with the same effects.

What it does otherwise stands in `interfaces/verdicts/simulator.toml`, with the reason.
"""

import asyncio
import tomllib
from contextlib import closing
from importlib.resources import files
from typing import Any

import pytest

from aibrix_extproc.interfaces.verdicts import NEWEST, verdicts
from aibrix_extproc.simulator.options import VERSIONS, SimulatorOptions, Task
from aibrix_extproc.simulator.server import Simulator
from tools.measure.asking import Asker
from tools.measure.engines import MODEL
from tools.measure.measuring import Measurement
from tools.measure.plan import operations

TASKS = {
    "embedding": Task.EMBED, "embed_cohere": Task.EMBED, "pooling": Task.EMBED, "classify": Task.CLASSIFY,
    "score": Task.SCORE, "rerank": Task.SCORE, "transcription": Task.TRANSCRIPTION, "translation": Task.TRANSCRIPTION,
}  # fmt: skip
FILE = files("aibrix_extproc.interfaces.verdicts") / "simulator.toml"
EXCEPTIONS = {
    field: row["why"] for row in tomllib.loads(FILE.read_text("utf-8"))["exceptions"] for field in row["fields"]
}


def statuses(verdict: dict[str, Any]) -> dict[str, str]:
    """What each tried value gave: `ok`, or the status."""
    tried = {"a good value": verdict.get("error", "ok"), **verdict.get("bounds", {})}
    if "wrong" in verdict:
        tried["a wrong value"] = verdict["wrong"]
    return {value: said.partition(" ")[0] for value, said in tried.items()}


def difference(ours: dict[str, Any], theirs: dict[str, Any]) -> str:
    said, wanted = statuses(ours), statuses(theirs)
    other = [
        f"{value}: {said.get(value)}, not {status}" for value, status in wanted.items() if said.get(value) != status
    ]
    if not other and (ours["verdict"] == "honoured") != (theirs["verdict"] == "honoured"):
        other = [f"{ours['verdict']}, not {theirs['verdict']}"]
    return "; ".join(other)


def excused(operation: str, path: str, said: str) -> bool:
    """Whether the table has the field. What it says of all operations excuses no wrong type."""
    return f"{operation}.{path}" in EXCEPTIONS or (f"*.{path}" in EXCEPTIONS and "a wrong value" not in said)


@pytest.mark.parametrize("operation", operations())
async def test_fields_are_treated_as_by_a_real_engine(operation: str) -> None:
    task = TASKS.get(operation, Task.GENERATE)
    options = SimulatorOptions(
        models=(MODEL,), task=task, version=VERSIONS[-1], max_model_len=4096, auto_tool_choice=True,
        prompt_tokens_details=True, responses_store=True,
    )  # fmt: skip
    async with Simulator(options) as engine:
        with closing(Asker(engine.url, "any")) as asker:
            measured, _ = await asyncio.to_thread(Measurement(asker, asker).operation, operation, top=True)
    real = verdicts(NEWEST)[operation]["request"]
    found = {path: said for path, ours in measured.items() if (said := difference(ours, real[path]))}
    unexpected = {path: said for path, said in found.items() if not excused(operation, path, said)}
    assert unexpected == {}, f"mend the simulator, or say why in {FILE}"
    agreeing = {path for path in measured if f"{operation}.{path}" in EXCEPTIONS} - set(found)
    assert agreeing == set(), f"remove these exceptions from {FILE}"
