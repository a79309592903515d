"""Acceptance 7.14, IF-04: clients generated from the document work, and what generated requests get follows it."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.openapi.conftest import Gateway
from tests.openapi.install import BIN, HERE, NODE

pytestmark = pytest.mark.openapi

SECONDS = 120  # for each phase; schemathesis repeats nothing when it is through
CHECKS = ("not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance")
STATEFUL = ("use_after_free", "ensure_resource_availability")


def run(*words: str | Path, folder: Path, **environment: str) -> str:
    """What a program of the tools writes; it must succeed."""
    path = f"{BIN}:{NODE / 'node_modules' / '.bin'}:{os.environ['PATH']}"  # noqa: TID251 - tools, not the gateway
    known = {"PATH": path, "PYTHONPATH": str(HERE)}
    ran = subprocess.run(words, cwd=folder, env=known | environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout[-8000:] + ran.stderr[-2000:]
    return ran.stdout + ran.stderr


def test_if_04_a_generated_client_talks_to_the_gateway(gateway: Gateway, tmp_path: Path) -> None:
    words = ("generate", "--path", gateway.document, "--output-path", tmp_path / "generated", "--meta", "none")
    said = run(BIN / "openapi-python-client", *words, folder=tmp_path)
    assert "WARNING" not in said, said
    run(BIN / "python", HERE / "client_cases.py", tmp_path, gateway.origin, gateway.key, folder=tmp_path)


def test_if_04_typescript_checks_a_program_by_the_document_and_it_runs(gateway: Gateway, tmp_path: Path) -> None:
    if shutil.which("npm") is None:
        pytest.skip("Node.js is not installed: install it and run make test-openapi again")
    (tmp_path / "node_modules").symlink_to(NODE / "node_modules")
    for name in ("client_cases.ts", "tsconfig.json", "package.json"):
        shutil.copy(HERE / name, tmp_path)
    run("openapi-typescript", gateway.document, "-o", "api.d.ts", "--default-non-nullable", "false", folder=tmp_path)
    run("tsc", "-p", ".", folder=tmp_path)
    run("node", "client_cases.js", gateway.origin, gateway.key, folder=tmp_path)


@pytest.mark.parametrize(
    ("phase", "checks", "examples"),
    [("fuzzing", CHECKS, 20), ("coverage", CHECKS, 20), ("stateful", CHECKS + STATEFUL, 30)],
    ids=["fuzzing", "coverage", "stateful"],
)
def test_if_04_generated_requests_get_what_the_document_says(
    gateway: Gateway, tmp_path: Path, phase: str, checks: tuple[str, ...], examples: int
) -> None:
    generated(gateway, tmp_path, "--phases", phase, "--checks", ",".join(checks), "--max-examples", str(examples))


@pytest.mark.parametrize("phase", ["fuzzing", "stateful"])
def test_if_04_generated_requests_of_an_administrator_get_what_the_document_says(
    administered: Gateway, tmp_path: Path, phase: str
) -> None:
    # Engines without a channel for weights answer these with a 500, which the administrator gets.
    left_out = ("--exclude-operation-id-regex", "weight_update$|^update_weights$")
    topics = [word for topic in ("engines", "access", "usage") for word in ("--include-tag", topic)]
    generated(
        administered,
        tmp_path,
        "--phases",
        phase,
        "--checks",
        ",".join(CHECKS),
        "--max-examples",
        "15",
        *topics,
        *left_out,
    )


def generated(gateway: Gateway, folder: Path, *more: str) -> None:
    """Send requests that are generated from the document, for a bounded time."""
    options = (
        "--url", gateway.origin, "--header", f"Authorization: Bearer {gateway.key}", "--max-time", str(SECONDS),
        "--no-shrink", "--suppress-health-check", "all", "--request-timeout", "30", "--continue-on-failure",
        "--generation-database", "none",
    )  # fmt: skip
    said = run(
        BIN / "st", "run", gateway.document, *options, *more, folder=folder, SCHEMATHESIS_HOOKS="generated_requests"
    )
    assert "Operations:" in said
