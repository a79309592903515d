"""Acceptance 7.14, IF-03: published schemas take what engines took, and refuse what engines refused.

The requests are those of `make measure`, of which the verdicts tell what an engine did; the answers are those that the
pages of the reference recorded.
"""

import json
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Final

import pytest
from jsonschema import Draft202012Validator

from aibrix_extproc.core.openai.contract.operation_rows import ROUTER
from aibrix_extproc.core.openai.contract.operations import Match
from aibrix_extproc.interfaces.document import read_document
from aibrix_extproc.interfaces.verdicts import NEWEST, verdicts
from tools.measure.plan import FORMS, filled, probes
from tools.samples.blocks import samples
from tools.samples.running import PAGES

Json = dict[str, Any]

EVERY: Final = 6  # of nearly six thousand requests the suite takes each sixth; make test-openapi all of them
# Fields whose values schemas judge otherwise than engines, and why.
WIDER: Final[Mapping[str, str]] = {
    "moderation.policy.input": "the value that was sent is no policy, and no engine looks",
}
NARROWER: Final[Mapping[str, str]] = {
    "media_io_kwargs": "of two forms of the request one does not have it, and takes all that it does not have",
    "mm_processor_kwargs": "of two forms of the request one does not have it, and takes all that it does not have",
    "messages": "vLLM's schema takes messages of any role, with parts of any kind",
}
OWN_MESSAGES: Final = ("tokenize", "classify", "embedding", "pooling")  # whose messages vLLM's schema describes


@cache
def schemas(operation: str) -> Mapping[str, Draft202012Validator]:
    found = json.loads(b"{%s}" % _document().schemas(operation))
    return {name: Draft202012Validator(schema) for name, schema in found.items()}


_document = cache(read_document)


def requests() -> Iterator[tuple[str, str, Json, bool]]:
    """Operation, field, a request about it, and whether the engine took it."""
    for operation in sorted(set(verdicts()) - FORMS):
        measured = verdicts()[operation]["request"]
        for probe in (one for vision in (False, True) for one in probes(operation, vision=vision)):
            path = probe.field.path
            told = measured.get(path, {"verdict": "refused"})
            if told["verdict"] == "refused":  # for a reason that no schema knows: a good value
                continue
            if path not in WIDER:
                yield operation, path, filled(probe.valid, "ab", (4, 5)), True
            known = path.partition("[")[0] if operation in OWN_MESSAGES else path
            if probe.wrong is not None and told.get("wrong", "").startswith("400") and known not in NARROWER:
                yield operation, path, filled(probe.wrong, "ab", (4, 5)), False


def misjudged(step: int) -> list[str]:
    return [
        f"{operation}.{path}: {'refused' if taken else 'taken'}"
        for number, (operation, path, request, taken) in enumerate(requests())
        if number % step == 0 and schemas(operation)["input_schema"].is_valid(request) is not taken
    ]


def test_if_03_schemas_judge_requests_as_the_engine_did() -> None:
    assert misjudged(EVERY) == []


@pytest.mark.openapi
def test_if_03_schemas_judge_all_requests_as_the_engine_did() -> None:
    assert misjudged(1) == []


def answers() -> Iterator[tuple[str, str, Any]]:
    """Operation, which schema, and an answer or event as the pages have it."""
    for page in sorted(PAGES.glob("*.md")):
        for sample in samples(page.read_text("utf-8")):
            if sample.language != "http" or not sample.printed:
                continue
            method, path = sample.text.split()[:2]
            found = ROUTER.match(method, path.partition("?")[0])
            assert isinstance(found, Match), path
            for place, one in _said(sample.printed):
                if place in schemas(found.operation.id) and "error" not in one:
                    yield found.operation.id, place, one


def _said(printed: str) -> Iterator[tuple[str, Json]]:
    if printed.startswith(("{", "[")):
        yield "output_schema", json.loads(printed)
    for line in printed.splitlines():
        if line.startswith("data: {"):
            yield "event_schema", json.loads(line.removeprefix("data: "))


def test_if_03_recorded_answers_and_events_follow_their_schemas() -> None:
    found = list(answers())
    wrong = [
        f"{operation} {place} {list(error.absolute_path)}: {error.message[:200]}"
        for operation, place, one in found
        for error in schemas(operation)[place].iter_errors(one)
    ]
    assert wrong == []
    assert {operation for operation, _, _ in found} >= {"chat_completion", "response", "message", "embedding"}


def test_the_reasons_are_of_fields_that_were_measured() -> None:
    paths = {path for places in verdicts(NEWEST).values() for path in places["request"]}
    assert set(WIDER) | set(NARROWER) <= paths
