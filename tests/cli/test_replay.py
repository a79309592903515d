"""`aibrix-extproc replay`: a trace in, a table or JSON or a drawing out, and sentences for what cannot be used."""

import gzip
import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from aibrix_extproc.cli.main import main

LINES = b"".join(
    json.dumps({"timestamp": 100 * number, "input_length": 2048, "output_length": 4, "hash_ids": [0, 1, number, 9]})
    .encode() + b"\n"
    for number in range(10, 40)
)  # fmt: skip


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "trace.jsonl.gz"
    path.write_bytes(gzip.compress(LINES))
    return path


def test_a_row_for_each_strategy_and_number_of_engines(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--strategy", "round-robin", "llm-d", "--engines", "2", "3", "--json", "--skip", "5"]
    assert main(["replay", str(trace), *words]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["strategy"], row["engines"], row["requests"]) for row in rows] == [
        ("round-robin", 2, 25), ("llm-d", 2, 25), ("round-robin", 3, 25), ("llm-d", 3, 25),
    ]  # fmt: skip
    assert all(0 < row["ttft_p50"] <= row["ttft_p99"] for row in rows)


def test_the_table_has_the_figures(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--requests", "50", "--strategy", "least-request", "--slow", "1=3", "--gateways", "2", "--one-at-a-time"]
    assert main(["replay", "multi-turn", *words]) == 0
    head, row = capsys.readouterr().out.splitlines()
    assert head.split()[:3] == ["strategy", "engines", "hits"]
    assert row.split()[:2] == ["least-request", "8"]


def test_the_drawing_has_a_curve_for_each_strategy(trace: Path, tmp_path: Path) -> None:
    drawn = tmp_path / "drawn.svg"
    assert main(["replay", str(trace), "--strategy", "random", "sglang", "--svg", str(drawn)]) == 0
    root = ElementTree.parse(drawn).getroot()
    assert len(root.findall("{*}polyline")) == 2
    assert {"random", "sglang"} <= {one.text for one in root.findall("{*}text")}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nothing.jsonl"], "cannot be read"),
        (["convrsation"], "did you mean conversation?"),
        (["rag", "--strategy", "lest-request"], "did you mean least-request?"),
        (["rag", "--slow", "8=5"], "0 to 7"),
        (["rag", "--slow", "fast"], "5=5"),
        (["rag", "--slow", "1=0"], "more than 0"),
        (["rag", "--requests", "10", "--skip", "10"], "leaves nothing"),
    ],
    ids=["file", "workload", "strategy", "engine", "word", "factor", "skip"],
)
def test_what_cannot_be_used_is_said_in_a_sentence(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["replay", *words]) == 2
    assert said in capsys.readouterr().err


def test_a_broken_trace_is_named_with_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "broken.jsonl"
    path.write_bytes(LINES + b'{"input_length": "x"}\n')
    assert main(["replay", str(path)]) == 2
    assert f"{path}: line 31" in capsys.readouterr().err


def test_a_trace_without_prefixes_is_announced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "azure.csv"
    path.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.9,100,1\n", encoding="utf-8")
    assert main(["replay", str(path), "--strategy", "random"]) == 0
    assert "nothing of prefixes" in capsys.readouterr().err
