"""The tool against a bare engine, which must fail, and against our own stack, which must not."""

import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from aibrix_extproc.conformance.expect import NOT_OPENAI
from aibrix_extproc.conformance.table import CASES
from aibrix_extproc.core.access.holders import digest_of
from tests import warm
from tests.dataplane.children import ROOT, Child
from tests.dataplane.engines import EngineSpec
from tests.dataplane.stack import METERED, Stack, running

KEY = "sk-conformance-0123456789abcdef"
LIMITED_KEY = "sk-limited-0123456789abcdef"
LIMITED_CALLER = f"""callers:
- name: limited
  keys: [{{hash: 'sha256:{digest_of(LIMITED_KEY).hex()}', id: k_limited}}]
  limits: {{requests_per_minute: 60}}"""
PACED = (
    "--multimodal",
    "--enable-auto-tool-choice",
    "--max-model-len",
    "4096",
    "--itl-ms",
    "15",
    "--output-tokens",
    "48",
)
FLEET = (
    EngineSpec("chat-1", ("chat-m",), PACED),
    EngineSpec("chat-2", ("chat-m",), PACED),
    EngineSpec("small", ("org/chat-s",), ("--lora", "lora-1=/adapters/lora-1", "--max-model-len", "512")),
    EngineSpec("emb", ("emb-m",), ("--task", "embed")),
    EngineSpec("asr", ("asr-m",), ("--task", "transcription")),
)
# What the product does not do yet.
KNOWN: set[str] = set()
STORED = ("files", "uploads", "batches")  # asked with the metadata service: tests/app/test_local_metadata.py
# What is asked with an administrator's key or with the metadata service, and a word of the reason.
UNASKED = {"operations": "(--admin-key)", "usage": "/usage"}


@dataclass(frozen=True, slots=True)
class Outcome:
    exit_code: int
    out: str
    cases: dict[str, dict[str, Any]]
    junit: ElementTree.Element

    def having(self, result: str) -> set[str]:
        return {name for name, case in self.cases.items() if case["result"] == result}


def verify(directory: Path, base_url: str, *words: str) -> Outcome:
    command = warm.command("aibrix_extproc", "conformance", "--base-url", base_url, *words)
    command += ["--json", str(directory / "out.json"), "--junit", str(directory / "out.xml")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=300)
    assert ended.stderr == ""
    document = json.loads((directory / "out.json").read_text())
    return Outcome(
        ended.returncode, ended.stdout, {case["id"]: case for case in document["cases"]},
        ElementTree.parse(directory / "out.xml").getroot(),
    )  # fmt: skip


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outcome]:
    directory = tmp_path_factory.mktemp("bare")
    words = ["simulate", "--port", "0", "--model", "bare-m"]
    engine = Child("engine", [sys.executable, "-m", "aibrix_extproc", *words], directory)
    try:
        url = engine.wait_output("listening on ").rpartition(" ")[2]
        yield verify(directory, f"{url}/v1", "--quick", "--timeout", "10")
    finally:
        engine.kill()


@pytest.mark.slow
class TestBareEngine:
    """Engines are not OpenAI: the tool must say so."""

    def test_exits_with_1(self, bare: Outcome) -> None:
        assert bare.exit_code == 1
        assert re.search(r"\d+ skipped \(\d+ different faults\) in ", bare.out.splitlines()[-1])

    def test_fails_what_engines_get_wrong(self, bare: Outcome) -> None:
        wrong = {
            "HDR-01", "HDR-05", "HDR-06", "URL-01", "URL-04", "URL-08", "URL-10", "REQ-01", "REQ-03",
            "REQ-05", "REQ-06", "REQ-07", "REQ-12", "REQ-13", "REQ-28", "MOD-01", "MOD-04", "MOD-07", "AUTH-10",
            "RESP-04", "RESP-07", "EMB-06", "ERR-19",
        }  # fmt: skip
        assert wrong <= bare.having("fail")

    def test_passes_what_engines_do_right(self, bare: Outcome) -> None:
        right = {"CHAT-01", "CHAT-02", "CHAT-03", "CHAT-07", "CHAT-15", "COMP-01", "RESP-01", "RESP-02", "URL-06",
                 "REQ-18", "REQ-22", "TOK-01", "MOD-08"}  # fmt: skip
        assert right <= bare.having("pass")

    def test_says_what_came(self, bare: Outcome) -> None:
        assert bare.cases["URL-01"]["came"] == '404 application/json: {"detail":"Not Found"}'
        assert "Valid aliases: bare-m" in bare.cases["REQ-28"]["came"]
        assert 'came      404 application/json: {"detail":"Not Found"}' in bare.out

    def test_tells_a_fault_that_many_cases_meet_once(self, bare: Outcome) -> None:
        assert bare.cases["URL-01"]["root"] == bare.cases["AUTH-10"]["root"] == NOT_OPENAI
        assert bare.out.count('404 application/json: {"detail":"Not Found"}') == 1
        assert f"as in     AUTH-10: {NOT_OPENAI}" in bare.out
        assert f"  - {NOT_OPENAI}: " in bare.out

    def test_skips_what_it_lacks_with_the_reason(self, bare: Outcome) -> None:
        assert bare.cases["AUTH-01"]["reason"] == "the deployment requires no API key"
        assert bare.cases["AUD-01"]["reason"].startswith("no transcription model was found or given")
        assert bare.cases["MOD-02"]["reason"] == "no listed model has a slash in its id"
        assert bare.cases["CHAT-17"]["reason"].startswith("no LoRA model")

    def test_reports_agree(self, bare: Outcome) -> None:
        assert int(bare.junit.get("failures", "")) == len(bare.having("fail"))
        assert int(bare.junit.get("tests", "")) == len(bare.cases) == len([one for one in CASES if not one.is_large])


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outcome]:
    directory = tmp_path_factory.mktemp("stack")
    key_file = directory / "keys.yaml"
    words = ["keys", "new", "--file", str(key_file), "--caller", "narrow", "--models", "emb-*"]
    made = subprocess.run(
        [sys.executable, "-m", "aibrix_extproc", *words], capture_output=True, text=True, check=True, cwd=ROOT
    )
    narrow = next(word for word in made.stdout.split() if word.startswith("sk-"))
    limited = key_file.read_text().replace("callers:", LIMITED_CALLER, 1)
    key_file.write_text(limited)
    stack = Stack(
        directory / "run",
        FLEET,
        api_keys=(KEY,),
        serve_arguments=("--metering", "--key-file", str(key_file)),
        envoy_options=METERED,
    )
    stack.directory.mkdir()
    with running(stack):
        yield verify(
            directory, stack.base_url, "--api-key", KEY, "--forbidden-key", narrow, "--limited-key", LIMITED_KEY
        )


@pytest.mark.slow
@pytest.mark.envoy
class TestOwnStack:
    """The product, behind a real Envoy: nothing may fail."""

    def test_fails_nothing(self, own: Outcome) -> None:
        failed = own.having("fail")
        assert failed <= KNOWN, {name: (own.cases[name]["expected"], own.cases[name]["came"]) for name in failed}
        assert own.exit_code == (1 if failed else 0)

    def test_skips_only_what_it_lacks(self, own: Outcome) -> None:
        reasons = {name: own.cases[name]["reason"] for name in own.having("skip")}
        stored = {reasons.pop(name) for name in list(reasons) if own.cases[name]["group"] in STORED}
        for group, why in UNASKED.items():
            found = {reasons.pop(name) for name in list(reasons) if own.cases[name]["group"] == group}
            assert found, group
            assert all(why in reason for reason in found), found
        assert reasons == {
            "HDR-04": "no rate limits are announced", "CHAT-16": "chat-m shows no reasoning",
        }  # fmt: skip
        assert stored == {
            "the deployment has no Files API (/v1/files)", "the deployment has no Uploads API (/v1/uploads)",
            "the deployment has no Batch API (/v1/batches)",
        }  # fmt: skip
        assert not own.having("pass") & {name for name, case in own.cases.items() if case["group"] in STORED}

    def test_shows_no_key(self, own: Outcome) -> None:
        assert KEY not in own.out
        assert KEY not in json.dumps(own.cases)
