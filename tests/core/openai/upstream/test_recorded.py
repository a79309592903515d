"""Error bodies that real engines gave, and what clients are told of each: nothing of Python's or Rust's own words."""

import json
import re
from pathlib import Path
from typing import Any, Final

import pytest

from aibrix_extproc.core.openai.contract.errors import error_object, shape
from aibrix_extproc.core.openai.upstream.normalize import problem_from_upstream
from tests.core.openai.upstream.refused import refused

RECORDED: Final = Path(__file__).parents[3] / "recorded" / "vllm_errors.jsonl"
ROWS: Final[list[dict[str, Any]]] = [json.loads(line) for line in RECORDED.read_text().splitlines()]
FOREIGN: Final = re.compile(
    r"object is not|has no len|NoneType|validation error|'loc'|pydantic|TextEncodeInput|<class|Error\("
    r"|\b[fiu](?:8|16|32|64)\b|\benum\b|\bstruct\b"
    r"|target type|line \d+ column|Number\(|String\(|\.cc\b|/project|--\w|VLLM_"
)
# What a 4xx may not name: the body as a whole, the model, the route.
NAMELESS: Final = frozenset(
    {"invalid_image_url", "model_not_found", "unsupported_endpoint", "unsupported_content_type"}
)


@pytest.mark.parametrize("row", ROWS, ids=[f"{row['from']} {row['asked']}".replace(" ", "-") for row in ROWS])
def test_recorded_error_is_told_in_openai_words(row: dict[str, Any]) -> None:
    body = b"" if row["body"] is None else json.dumps(row["body"]).encode()
    problem = problem_from_upstream(
        row["status"], row["type"] or "", body, refused(row["path"], constrained_by=row["constrained_by"])
    )
    fields = error_object(problem)
    assert [shape(problem).status, fields["code"], fields["param"], fields["message"]] == row["told"]
    assert not FOREIGN.search(fields["message"] or "")
    if problem.http_status == 400 and fields["code"] not in NAMELESS and problem.key != "malformed_json":
        assert fields["param"] or fields["code"] == "invalid_type", "a refusal names a field"
