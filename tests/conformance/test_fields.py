"""Cases of fields: made of the table, right about what comes, and told by their cause."""

import json

import pytest

from aibrix_extproc.conformance import expect
from aibrix_extproc.conformance.bench import Bench
from aibrix_extproc.conformance.case import Case, Inapplicable, Mismatch
from aibrix_extproc.conformance.fields import BROKEN, GROUP, NOT_TAKEN, TAKEN, field_cases
from aibrix_extproc.conformance.table import group_of
from tests.conformance.fake import a_deployment, a_target, deployment
from tools.conformance.fields import TARGET, text

CASE = next(case for case in field_cases() if case.id == "embedding.input")
OWN = next(case for case in field_cases() if case.id == "embedding.truncate_prompt_tokens")
GOOD = next(case for case in field_cases() if case.id == "embedding.input.good")
SKIPPED = "skipped"


def test_file_is_what_the_table_of_fields_says() -> None:
    assert TARGET.read_text("utf-8") == text(), "run make fields"


def test_each_field_is_asked_once_and_belongs_to_the_group_of_fields() -> None:
    names = [case.id for case in field_cases()]
    assert len(set(names)) == len(names) > 150
    assert {group_of(case) for case in field_cases()} == {GROUP}


def error(message: str = "m", **fields: object) -> bytes:
    known = {"message": message, "type": "invalid_request_error", "param": "input", "code": "invalid_type"}
    return json.dumps({"error": known | fields}).encode()


@pytest.mark.parametrize(
    ("status", "body", "root"),
    [
        (400, error("Invalid type for 'input': expected a string, but got an integer instead."), None),
        (200, b"{}", TAKEN),
        (500, error(), BROKEN),
        (400, b'{"detail":"no"}', expect.NOT_OPENAI),
        (400, error(param="body.input"), expect.ENGINES_PARAM),
        (400, error(param="model"), ""),
    ],
    ids=["right", "taken", "broken", "another shape", "an engine's param", "another param"],
)
def test_case_of_a_field_judges_what_comes(status: int, body: bytes, root: str | None) -> None:
    assert judged(CASE, status, body) == root


def test_case_of_a_good_value_judges_what_comes() -> None:
    assert judged(GOOD, 200, b"{}") is None
    assert judged(GOOD, 400, error()) == NOT_TAKEN
    assert judged(GOOD, 400, error(code="unsupported_value", param="dimensions")) == NOT_TAKEN


def test_field_that_a_deployment_says_it_does_not_support_is_passed_over() -> None:
    assert judged(GOOD, 400, error(code="unsupported_value")) == SKIPPED


def test_field_of_vllm_that_a_deployment_does_not_know_is_passed_over() -> None:
    assert judged(OWN, 200, b"{}") == SKIPPED
    assert judged(OWN, 500, error()) == BROKEN
    assert judged(OWN, 400, error(param="truncate_prompt_tokens")) is None


def judged(case: Case, status: int, body: bytes) -> str | None:
    """The cause that a case finds in an answer, None if it passes."""
    headers = {"content-type": "application/json", "x-request-id": "r"}
    with deployment(lambda *_: (status, headers, body)) as base_url:
        bench = Bench(a_target(base_url), a_deployment(), 5)
        try:
            case.check(bench)
        except Mismatch as mismatch:
            return mismatch.root
        except Inapplicable:
            return SKIPPED
        finally:
            bench.close()
    return None
