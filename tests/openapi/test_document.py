"""Acceptance 7.14, IF-04: a client generated from the document works, and what generated requests get follows it."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.openapi.conftest import Gateway
from tests.openapi.install import BIN, HERE

pytestmark = pytest.mark.openapi

SECONDS = 120  # for each phase; schemathesis repeats nothing when it is through
CHECKS = ("not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance")
STATEFUL = ("use_after_free", "ensure_resource_availability")


def run(*words: str | Path, folder: Path, **environment: str) -> str:
    """What a program of the tools writes; it must succeed."""
    known = {"PATH": f"{BIN}:{os.environ['PATH']}", "PYTHONPATH": str(HERE)}  # noqa: TID251 - tools, not the gateway
    ran = subprocess.run(words, cwd=folder, env=known | environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout[-8000:] + ran.stderr[-2000:]
    return ran.stdout + ran.stderr


def test_if_04_a_generated_client_talks_to_the_gateway(gateway: Gateway, tmp_path: Path) -> None:
    words = ("generate", "--path", gateway.document, "--output-path", tmp_path / "generated", "--meta", "none")
    said = run(BIN / "openapi-python-client", *words, folder=tmp_path)
    assert "WARNING" not in said, said
    run(BIN / "python", HERE / "client_cases.py", tmp_path, gateway.origin, gateway.key, folder=tmp_path)


@pytest.mark.parametrize(
    ("phase", "checks", "examples"),
    [("fuzzing", CHECKS, 20), ("coverage", CHECKS, 20), ("stateful", CHECKS + STATEFUL, 30)],
    ids=["fuzzing", "coverage", "stateful"],
)
def test_if_04_generated_requests_get_what_the_document_says(
    gateway: Gateway, tmp_path: Path, phase: str, checks: tuple[str, ...], examples: int
) -> None:
    options = (
        "--url", gateway.origin, "--header", f"Authorization: Bearer {gateway.key}", "--phases", phase,
        "--checks", ",".join(checks), "--max-examples", str(examples), "--max-time", str(SECONDS), "--no-shrink",
        "--suppress-health-check", "all", "--request-timeout", "30", "--continue-on-failure", "--generation-database",
        "none",
    )  # fmt: skip
    said = run(BIN / "st", "run", gateway.document, *options, folder=tmp_path, SCHEMATHESIS_HOOKS="generated_requests")
    assert "Operations:" in said
