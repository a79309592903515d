"""Proof by bad deployments: whoever answers everything alike passes nothing that means anything."""

import pytest

from aibrix_extproc.conformance.case import Verdict
from aibrix_extproc.conformance.run import Run
from aibrix_extproc.conformance.table import CASES
from tests.conformance.fake import Reply, a_deployment, a_target, deployment

pytestmark = pytest.mark.slow
JSON = {"content-type": "application/json"}
SSE = {"content-type": "text/event-stream"}
STREAM = b"data: {}\n\ndata: [DONE]\n\n"
ALWAYS = {"MOD-08"}  # about the list that was read before
NO_BODY = {"URL-09"}  # HEAD is right with any deployment that sends no body


@pytest.mark.parametrize(
    ("reply", "may_pass"),
    [((500, {"content-type": "text/html"}, b"<html>oops</html>"), ALWAYS | {"ERR-21", "REQ-28"}),
     ((200, JSON, b"{}"), ALWAYS | NO_BODY),
     ((200, JSON, b'{"data":[],"object":"list","choices":[{}],"usage":{}}'), ALWAYS | NO_BODY),
     ((200, {}, b""), ALWAYS | NO_BODY),
     ((200, SSE, STREAM), ALWAYS | NO_BODY | {"CHAT-11", "ERR-20"}),
     ((404, JSON, b'{"detail":"Not Found"}'), ALWAYS | NO_BODY | {"ERR-21", "REQ-28"})],
    ids=["html-500", "empty-object", "odd-object", "empty-body", "empty-events", "detail-404"],
)  # fmt: skip
def test_a_deployment_that_answers_everything_alike_fails(reply: Reply, may_pass: set[str]) -> None:
    with deployment(lambda method, path: reply) as url:
        target = a_target(
            url, api_key="sk-0123456789", forbidden_key="sk-9876543210", limited_key="sk-5678901234", seconds=1.5
        )
        found = Run(target, a_deployment(), concurrency=8, on_result=lambda result: None).over(CASES)
    assert {result.case.id for result in found if result.verdict is Verdict.PASS} <= may_pass
    # Whoever answers everything may serve images, and whoever has nothing has no /tokenize.
    may_skip = {"CHAT-09", "REQ-28", "URL-12", "TOK-01"}
    if reply[0] == 404:  # engines without the routes of operators, and nobody who keeps usage
        may_skip |= {*(f"OPS-{number:02}" for number in range(1, 7)), "USE-04", "USE-05", "IF-01", "IF-02", "IF-04"}
    assert {result.case.id for result in found if result.verdict is Verdict.SKIP} <= may_skip
    assert all(result.came for result in found if result.verdict is Verdict.FAIL)
