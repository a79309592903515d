"""The reference's data: complete, in the words of the tables, and true where the code can be asked."""

import json
from collections import defaultdict
from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from aibrix_extproc.app.interfaces import described
from aibrix_extproc.app.limiting import DEGRADED, WARNING
from aibrix_extproc.cli.reference_docs import DOCS
from aibrix_extproc.core.access.limits.amounts import AMOUNTS
from aibrix_extproc.core.access.limits.answers import anthropic_headers, openai_headers, retry_headers
from aibrix_extproc.core.access.limits.book import LimitBook
from aibrix_extproc.core.access.limits.counters import Counters
from aibrix_extproc.core.access.limits.records import LimitRecord
from aibrix_extproc.core.exchange.admission import refusal_from_head
from aibrix_extproc.core.exchange.asks import Admitted, Describe
from aibrix_extproc.core.exchange.machine import Exchange
from aibrix_extproc.core.exchange.outputs import Continue, Immediate
from aibrix_extproc.core.exchange.policy import ExchangePolicy
from aibrix_extproc.core.openai.contract import headers
from aibrix_extproc.core.openai.contract.error_row import Cause
from aibrix_extproc.core.openai.contract.errors import ERRORS, Problem, shape
from aibrix_extproc.core.openai.contract.operation_errors import CAUSES, SDK_EXCEPTIONS, errors_of, errors_with
from aibrix_extproc.core.openai.contract.operation_rows import OPERATIONS
from aibrix_extproc.core.openai.contract.operations import Action, ModelIn, Operation, Stream
from aibrix_extproc.core.openai.reference.header_docs import (
    REQUEST_HEADERS,
    RESPONSE_HEADERS,
    STOPPED_RESPONSE_HEADERS,
    treatment,
)
from aibrix_extproc.core.openai.reference.operation_docs import KINDS, Field, OperationDoc
from aibrix_extproc.core.openai.upstream.local_replies import problem_from_local_reply
from aibrix_extproc.core.openai.upstream.normalize import problem_from_upstream
from aibrix_extproc.core.openai.upstream.rules import Request
from aibrix_extproc.core.openai.wire.request import read_fields, read_json, supported_format
from aibrix_extproc.interfaces.document import text_of
from tests.build import CALLER, a_placed, a_request_body, a_request_head, a_response_head, an_exchange

SERVED = tuple(row for row in OPERATIONS if row.action in (Action.ROUTE, Action.STICKY, Action.LOCAL, Action.METADATA))
ROUTED = tuple(row for row in SERVED if row.action is Action.ROUTE)
ASKED = tuple(row for row in SERVED if row.action in (Action.ROUTE, Action.STICKY))


def fields() -> Iterator[tuple[str, Field]]:
    for name, doc in DOCS.items():
        for one in (*doc.request, *doc.query, *doc.answer):
            yield name, one


def test_every_served_operation_is_described_and_no_other() -> None:
    served = {row.id for row in SERVED}
    assert served - set(DOCS) == set(), "describe the operation: core/openai/reference/operation_doc_rows*.py"
    assert set(DOCS) - served == set(), "no operation is served under this id: its description goes, too"


@pytest.mark.parametrize("row", SERVED, ids=lambda row: row.id)
def test_description_fits_its_row(row: Operation) -> None:
    doc = DOCS[row.id]
    assert doc.summary
    assert not doc.summary.endswith(".")
    assert bool(doc.streaming) is (row.stream is not Stream.NONE), "what streams says how, and nothing else does"
    assert bool(doc.request) is (row.action is Action.ROUTE or bool(doc.request_media))
    if row.action is Action.ROUTE:
        model = next(one for one in doc.request if one.name == "model")
        assert model.required, "a request without a model is refused"
        assert any(one.kind == "file" for one in doc.request) is (row.model_in is ModelIn.FORM)
    if row.stream is not Stream.NONE:
        assert any(one.name == "stream" for one in (*doc.request, *doc.query))


def test_fields_have_known_types_and_defaults_that_are_json() -> None:
    assert [(name, one.name) for name, one in fields() if not set(one.kinds) <= KINDS] == []
    assert [(name, one.name) for name, one in fields() if one.default and one.required] == []
    for _, one in fields():
        if one.default and one.values:
            assert json.loads(one.default) in one.values


def test_lists_name_a_field_once() -> None:
    for doc in DOCS.values():
        for listed in (doc.request, doc.query, doc.answer):
            names = [one.name for one in listed]
            assert len(names) == len(set(names))


def test_sentences_in_lists_have_no_full_stop() -> None:
    def points(doc: OperationDoc) -> tuple[str, ...]:
        return (*doc.openai, *doc.vllm, *doc.limits, doc.streaming)

    assert [point for doc in DOCS.values() for point in points(doc) if point.endswith(".")] == []


# --- errors


def test_every_error_has_a_cause_and_every_cause_names_errors() -> None:
    assert set(CAUSES) == set(Cause), "describe the cause in CAUSES of core/openai/contract/operation_errors.py"
    assert [cause for cause in CAUSES if not errors_with(cause)] == []
    assert [key for key, row in ERRORS.items() if not row.causes] == [], "name the causes in the error's row"


def test_every_error_can_be_given_by_an_operation() -> None:
    given = frozenset(key for row in OPERATIONS for key in errors_of(row))
    # A path without its method belongs to no row, nor does the health path.
    assert set(ERRORS) - given == {"method_not_allowed", "no_engine_ready"}


def test_every_status_has_its_exception() -> None:
    statuses = {row.status for row in ERRORS.values()}
    assert statuses - set(SDK_EXCEPTIONS) == set(), "name the SDK's exception: core/openai/contract/operation_errors.py"
    assert set(SDK_EXCEPTIONS) - statuses == set(), "no error has this status"


ENGINE_BODIES = (
    b"",
    b'{"detail":"Not Found"}',
    b'{"error":"Unauthorized"}',
    b"<html>",
    *(
        json.dumps({"error": {"message": message, "type": "BadRequestError", "param": param, "code": 400}}).encode()
        for message, param in (
            ("The model `m` does not exist.", "model"),
            ("This model's maximum context length is 8 tokens. However, ...", "input_tokens"),
            ("JSON decode error", "body.1"),
            ("Field required", "body.messages"),
            ("temperature must be non-negative", "temperature"),
            ("chat is not a multimodal model", None),
            ('"auto" tool choice requires --enable-auto-tool-choice', None),
            ("Response with id 'resp_1' not found.", "response_id"),
            ("failed to load image", None),
            ("something else", None),
        )
    ),
)
STATUSES = (400, 401, 403, 404, 405, 408, 409, 413, 422, 429, 431, 500, 501, 502, 503, 504, 529, 302)


@pytest.mark.parametrize("row", ASKED, ids=lambda row: row.id)
def test_what_engines_and_envoy_cause_is_among_an_operations_errors(row: Operation) -> None:
    model = "m" if row.action is Action.ROUTE else None
    # An engine that is asked for a stored response says nothing about prompts, forms and models.
    bodies = ENGINE_BODIES if model else (*ENGINE_BODIES[:4], ENGINE_BODIES[-1], ENGINE_BODIES[-3])
    given = set()
    for status in STATUSES:
        for body in bodies:
            refused = Request(row.method, row.path, row, model=model)
            problem = problem_from_upstream(status, "application/json", body, refused)
            given.add(problem.key)
    for details in ("", "no_healthy_upstream", "upstream_reset_before_response_started{overflow}", "ext_proc_error"):
        for status in (400, 404, 413, 431, 429, 500, 502, 503, 504):
            given.add(problem_from_local_reply(status, details, 0, max_body_bytes=1).key)
    assert len(given) > 10
    assert sorted(given - errors_of(row)) == []


@pytest.mark.parametrize("row", ROUTED, ids=lambda row: row.id)
def test_what_the_request_causes_is_among_an_operations_errors(row: Operation) -> None:
    policy = ExchangePolicy(max_body_bytes=10)
    good = "multipart/form-data; boundary=x" if row.model_in is ModelIn.FORM else "application/json"
    heads = (
        {"content-encoding": "gzip"}, {"content-type": "text/plain"}, {"content-type": good, "content-length": "11"},
        {"content-type": good, "content-length": "99999999"},
    )  # fmt: skip
    found = [refusal_from_head(row, head, row.path, end_of_stream=False, policy=policy) for head in heads]
    found.append(refusal_from_head(row, {}, row.path, end_of_stream=True, policy=policy))
    if row.model_in is ModelIn.JSON:
        found += [
            value
            for body in (b"{", b"{}", b'{"model":1}', b'{"model":""}')
            if isinstance(value := read_json(body), Problem)
        ]
    else:
        forms: tuple[dict[str, str], ...] = ({}, {"model": ""}, {"model": "m", "response_format": "srt"})
        for form in forms:
            facts = read_fields(form)
            refused = facts if isinstance(facts, Problem) else supported_format(facts)
            assert isinstance(refused, Problem)
            found.append(refused)
    given = {problem.key for problem in found if problem is not None}
    assert len(given) > 5
    assert sorted(given - errors_of(row)) == []


# --- headers


def test_every_header_that_is_read_is_described() -> None:
    pseudo = {name for name in headers.READ_HEADERS if name.startswith(":")}
    of_answers = set(headers.NOT_RETURNED_WITH_ERRORS) - set(REQUEST_HEADERS)
    nobodys = {headers.TEST_SELECTION}  # only conformance tests of gateways send it
    assert headers.READ_HEADERS - pseudo - of_answers - nobodys - set(REQUEST_HEADERS) == set()
    assert set(REQUEST_HEADERS) - headers.READ_HEADERS == set(), "described, and not read"


def test_every_header_that_is_stopped_is_described() -> None:
    assert set(STOPPED_RESPONSE_HEADERS) == set(headers.NOT_RETURNED)


def test_engines_get_what_the_page_says() -> None:
    sent = {
        name: "x" for name in REQUEST_HEADERS if name not in ("content-type", "content-encoding", "routing-strategy")
    }
    exchange = an_exchange()
    for event in (
        a_request_head(headers={**sent, "content-encoding": "identity", "routing-strategy": "random"}),
        Admitted(CALLER),
        a_request_body(),
    ):
        exchange.receive(event)
    (reply,) = [one for one in exchange.receive(a_placed()) if isinstance(one, Continue)]
    changed = {name for name, _ in reply.set_headers}
    for name in REQUEST_HEADERS:
        what = treatment(name)
        if what.startswith("removed") or what == "read, not forwarded":
            # The destination is not removed but written over.
            assert name in reply.remove_headers or (name == headers.DESTINATION and reply.destination), name
        elif what == "read, replaced" and name != "content-length":  # the body stays the same
            assert name in changed, name
        else:
            assert name not in reply.remove_headers, name


def answers() -> Iterator[tuple[tuple[str, str], ...]]:
    """Headers of answers of all kinds, as they are set."""
    for key, row in ERRORS.items():
        values = defaultdict(lambda: "x", request_id="x")
        assert row
        yield shape(Problem(key, values)).headers
    for head in (
        a_request_head("OPTIONS", headers={"origin": "https://page.example"}),
        a_request_head("GET", "/v1/nope", headers={"origin": "https://page.example"}),
        a_request_head("GET", "/v1/chat/completions"),
    ):
        exchange = an_exchange()
        outputs = (*exchange.receive(head), *(exchange.receive(Admitted(CALLER)) if head.headers else ()))
        yield from (one.headers for one in outputs if isinstance(one, Immediate))
    yield streamed(an_exchange())
    plan = LimitBook([LimitRecord("a", limits=dict.fromkeys(AMOUNTS, 5))]).plan("", "", "", lambda: 0.0)
    taken = Counters().reserve(0.0, "", plan.claims, (0.0,) * len(plan.claims), keep=1.0, lease=1.0)
    yield (*openai_headers(plan, taken), *anthropic_headers(plan, taken), *retry_headers(1.0))
    yield (DEGRADED, (WARNING, "x"))
    yield described(Describe(OPERATIONS[0], {}, CALLER), text_of(b"{}")).headers


def streamed(exchange: Exchange) -> tuple[tuple[str, str], ...]:
    head = a_request_head(headers={"origin": "https://page.example"})
    told = ((headers.SESSION_ID, "s"), (headers.CHOSEN_PROFILE, "p"), (headers.DECISION, "{}"))
    placed = replace(a_placed(), answer_headers=told, engine_load=lambda: "gateway 0 1")
    for event in (head, Admitted(CALLER, batch_id="batch_1"), a_request_body(stream=True), placed):
        exchange.receive(event)
    outputs = exchange.receive(a_response_head(headers={"content-type": "text/event-stream"}))
    (reply,) = [one for one in outputs if isinstance(one, Continue)]
    return reply.set_headers


def test_every_header_that_is_set_is_described_and_no_other() -> None:
    given = {name for one in answers() for name, _ in one if not name.startswith(":")}
    # Set where a body is rewritten, which no answer above is.
    assert given | {"content-length"} == set(RESPONSE_HEADERS)
