"""`aibrix-extproc explain` against a real admin server: what it asks, what it prints and how it exits."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from aibrix_extproc.adapters.http.admin import AdminServer
from aibrix_extproc.cli.main import main

Printed = pytest.CaptureFixture[str]

PAGE: Mapping[str, Any] = {
    "request_id": "r-1", "at": 0.0, "model": "chat-m", "strategy": "predicted", "named_by": "setting",
    "degraded": [{"strategy": "predicted", "reason": "no-speeds"}], "eligible": 3,
    "candidates": ["10.0.0.2:8000", "10.0.0.1:8000"], "served_by": "10.0.0.1:8000",
    "endpoints": ["10.0.0.1:8000", "10.0.0.2:8000", "10.0.0.3:8000"],
    "scores": [{"strategy": "predicted", "weight": 1, "scores": [0.5, 1.0, 0.0]}],
    "details": {"in_flight": [1.0, 0.0, 4.0]}, "tick": 0, "queue_seconds": 0.25, "status": 200, "outcome": "served",
    "head_seconds": 0.5, "ttft_seconds": 0.75, "predicted_ttft_seconds": 0.7, "prompt_tokens": 40,
    "cached_tokens": None, "predicted_cached_tokens": None,
}  # fmt: skip


class Known:
    """Knows one decision, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: tuple[str, Mapping[str, str], bytes] | None = None

    def find(self, request_id: str) -> Mapping[str, object] | None:
        return PAGE if request_id == "r-1" else None

    def latest(self) -> Mapping[str, object]:
        return {"kept": 1, "decisions": [PAGE]}

    def dry_run(self, path: str, headers: Mapping[str, str], body: bytes) -> tuple[bool, Mapping[str, object]]:
        self.asked = path, headers, body
        return (True, PAGE) if body else (False, {"error": {"message": "It is empty."}})


@pytest.fixture
def known() -> Known:
    return Known()


@pytest.fixture
async def port(known: Known) -> AsyncIterator[int]:
    server = AdminServer(
        metrics=lambda: (b"", "text/plain"), health=lambda: (True, {}), fleet=dict, version="0", explaining=known
    )
    yield await server.start("127.0.0.1", 0)
    await server.stop()


async def explain(port: int, *words: str) -> int:
    return await asyncio.to_thread(main, ["explain", "--admin-port", str(port), *words])


async def test_decision_is_told_in_sentences_and_a_table(port: int, capsys: Printed) -> None:
    assert await explain(port, "r-1") == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("r-1  model chat-m")
    assert out[1:] == [
        "10.0.0.1:8000: the choice of predicted (the gateway's setting) among 3 that could take it",
        "  10.0.0.2:8000 was first; Envoy's retry went on to this one",
        "  degraded: predicted, no-speeds",
        "  waited 0.250 s to be placed",
        "  the answer began 0.500 s after placement",
        "  first token after: 0.75 s, predicted 0.7 s",
        "rank  endpoint       predicted x1  in_flight",
        "1     10.0.0.2:8000  1             0",
        "2     10.0.0.1:8000  0.5           1",
        "      10.0.0.3:8000  0             4",
    ]


async def test_json_is_the_record(port: int, capsys: Printed) -> None:
    assert await explain(port, "r-1", "--json") == 0
    assert json.loads(capsys.readouterr().out) == PAGE


async def test_latest_decisions_are_a_table(port: int, capsys: Printed) -> None:
    assert await explain(port) == 0
    assert "r-1" in capsys.readouterr().out


async def test_dry_run_sends_body_path_and_headers(port: int, known: Known, tmp_path: Path, capsys: Printed) -> None:
    body = tmp_path / "body.json"
    body.write_bytes(b'{"model":"chat-m"}')
    options = ("--path", "/v1/embeddings?a=b", "--header", "Routing-Strategy: random")
    assert await explain(port, "--body", str(body), *options) == 0
    assert known.asked is not None
    path, headers, sent = known.asked
    assert (path, headers["routing-strategy"], sent) == ("/v1/embeddings?a=b", "random", b'{"model":"chat-m"}')
    body.write_bytes(b"")
    assert await explain(port, "--body", str(body)) == 1
    assert "It is empty." in capsys.readouterr().err


async def test_what_cannot_be_answered_is_one_sentence(port: int, capsys: Printed) -> None:
    assert await explain(port, "r-2") == 1
    assert "keeps no decision about that request" in capsys.readouterr().err
    assert await explain(port, "r-1", "--body", "x") == 2
    assert await explain(port, "--body", "/nowhere/body") == 2
    assert "aibrix-extproc: /nowhere/body cannot be read: No such file or directory\n" in capsys.readouterr().err
    assert await explain(port, "--body", "/dev/null", "--header", "none") == 2
    assert await explain(1, "r-1") == 1
    assert "see --admin-port" in capsys.readouterr().err
