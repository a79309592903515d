"""The operations table holds together, and every request meets exactly one row, a 404 or a 405."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibrix_extproc.core.fleet.model import RUST_FRONTEND, Task
from aibrix_extproc.core.openai.contract.error_row import Cause
from aibrix_extproc.core.openai.contract.errors import ERRORS, Problem
from aibrix_extproc.core.openai.contract.operation_rows import OPERATIONS, ROUTER, is_anthropic
from aibrix_extproc.core.openai.contract.operations import (
    Action,
    Match,
    ModelIn,
    Operation,
    Router,
    Stream,
    UsageIn,
    shown,
)

METHODS = ("GET", "POST", "DELETE", "PUT", "PATCH", "HEAD", "OPTIONS", "get", "")
HIDDEN = (Action.REFUSE, Action.ADMIN)

# What the contract promises to route or to answer (OpenAI's surface, then vLLM's).
PROMISED = {
    "POST /v1/chat/completions": "chat_completion",
    "POST /v1/completions": "completion",
    "POST /v1/embeddings": "embedding",
    "POST /v1/responses": "response",
    "GET /v1/responses/resp_1": "retrieve_response",
    "POST /v1/responses/resp_1/cancel": "cancel_response",
    "POST /v1/audio/transcriptions": "transcription",
    "POST /v1/audio/translations": "translation",
    "GET /v1/models": "list_models",
    "GET /v1/models/m": "retrieve_model",
    "DELETE /v1/models/m": "delete_model",
    "POST /v1/rerank": "rerank",
    "POST /rerank": "rerank_root",
    "POST /v2/rerank": "rerank_v2",
    "POST /v1/score": "score",
    "POST /score": "score_root",
    "POST /classify": "classify",
    "POST /pooling": "pooling",
    "POST /tokenize": "tokenize",
    "POST /detokenize": "detokenize",
    "POST /v1/messages": "message",
    "POST /v1/messages/count_tokens": "count_tokens",
}


def found(method: str, path: str) -> Match:
    match = ROUTER.match(method, path)
    assert isinstance(match, Match), match
    return match


def refused(method: str, path: str) -> Problem:
    problem = ROUTER.match(method, path)
    assert isinstance(problem, Problem), problem
    return problem


def filled(template: str) -> str:
    """A path that the template matches."""
    return "/".join("x" if part.startswith("{") else part for part in template.split("/"))


def test_ids_and_pairs_of_method_and_path_are_unique() -> None:
    assert [name for name, count in Counter(row.id for row in OPERATIONS).items() if count > 1] == []
    pairs = Counter((row.method, row.path) for row in OPERATIONS)
    assert [pair for pair, count in pairs.items() if count > 1] == []


@pytest.mark.parametrize("row", OPERATIONS, ids=lambda row: row.id)
def test_every_row_is_reached_by_its_own_path(row: Operation) -> None:
    assert found(row.method, filled(row.path)).operation is row


@pytest.mark.parametrize("row", OPERATIONS, ids=lambda row: row.id)
def test_every_row_makes_sense(row: Operation) -> None:
    assert row.path.startswith("/")
    assert row.path == row.path.rstrip("/")
    assert row.id.isidentifier()
    assert row.tasks <= {task.value for task in Task}
    if row.action is Action.ROUTE:
        assert row.method == "POST"
        assert row.model_in in (ModelIn.JSON, ModelIn.FORM), "a request without a model cannot be routed"
    if row.action in HIDDEN:
        assert (row.stream, row.usage_in) == (Stream.NONE, UsageIn.NONE)
    if row.stream is not Stream.NONE:
        assert row.usage_in is not UsageIn.NONE, "what streams costs tokens"


@pytest.mark.parametrize(("request_line", "name"), PROMISED.items())
def test_promised_operation_is_served(request_line: str, name: str) -> None:
    operation = found(*request_line.split(" ")).operation
    assert operation.id == name
    assert operation.action not in HIDDEN


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("/v1/models/m", "m"),
        ("/v1/models/org/name", "org/name"),
        ("/v1/models/org%2Fname", "org%2Fname"),
        ("/v1/models/a/b/c", "a/b/c"),
        ("/v1/models/m:tag@1.0", "m:tag@1.0"),
        ("/v1/models/models", "models"),
    ],
)
def test_model_id_may_hold_slashes(path: str, model: str) -> None:
    assert found("GET", path).parameters == {"model": model}


def test_parameter_of_one_segment_ends_at_a_slash() -> None:
    assert found("GET", "/v1/files/f-1/content").parameters == {"file_id": "f-1"}
    assert refused("GET", "/v1/files/f-1/other").key == "unknown_url"
    assert refused("GET", "/v1/responses/a/b").key == "unknown_url"


def test_literal_path_wins_over_a_parameter() -> None:
    assert found("POST", "/v1/responses/input_tokens").operation.id == "input_tokens"
    assert found("POST", "/v1/chat/completions/batch").operation.id == "batch_chat"
    assert found("POST", "/v1/chat/completions/render").operation.id == "chat_render"


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/v1/chat/completions", "POST"),
        ("PUT", "/v1/chat/completions", "POST"),
        ("POST", "/v1/models", "GET"),
        ("POST", "/v1/models/org/name", "DELETE, GET"),
        ("DELETE", "/v1/responses", "POST"),
        ("PATCH", "/v1/responses/resp_1", "DELETE, GET"),
        ("HEAD", "/v1/models", "GET"),
        ("post", "/v1/chat/completions", "POST"),
        ("GET", "/tokenize", "POST"),
    ],
)
def test_wrong_method_of_a_served_path_is_a_405_with_allow(method: str, path: str, allow: str) -> None:
    problem = refused(method, path)
    assert (problem.key, problem.headers) == ("method_not_allowed", (("allow", allow),))


VISIBLE_PATHS = {row.path for row in OPERATIONS if row.action not in HIDDEN}


@pytest.mark.parametrize("path", sorted({row.path for row in OPERATIONS} - VISIBLE_PATHS))
def test_wrong_method_of_a_hidden_path_tells_nothing_of_it(path: str) -> None:
    assert refused("PUT", filled(path)).key in ("unknown_url", "unknown_url_outside")


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("/v1", "unknown_url"),
        ("/v1/", "unknown_url"),
        ("/v1/chat", "unknown_url"),
        ("/v1/chat/completions/", "unknown_url"),
        ("/v1//models", "unknown_url"),
        ("/V1/models", "unknown_url_outside"),
        ("/v1x/models", "unknown_url_outside"),
        ("/", "unknown_url_outside"),
        ("", "unknown_url_outside"),
        ("*", "unknown_url_outside"),
        ("/chat/completions", "unknown_url_outside"),
    ],
)
def test_unknown_path_is_a_404_that_depends_on_the_prefix(path: str, key: str) -> None:
    assert refused("POST", path).key == key


@given(st.sampled_from(METHODS), st.text(max_size=300) | st.from_regex(r"(/v1)?(/[a-z%{}.]{0,12}){0,4}"))
def test_any_request_line_meets_a_row_or_a_problem_with_printable_words(method: str, path: str) -> None:
    outcome = ROUTER.match(method, path)
    if isinstance(outcome, Match):
        assert outcome.operation.method == method
    else:
        assert outcome.http_status in (404, 405)
        assert all(text.isprintable() and len(text) <= 259 for text in outcome.values.values())


def test_allow_names_each_visible_method_once_in_order() -> None:
    rows = [
        Operation("a", "POST", "/x/{id}", action=Action.ROUTE),
        Operation("b", "GET", "/x/{id}", action=Action.LOCAL),
        Operation("c", "DELETE", "/x/{id}", action=Action.REFUSE),
    ]
    problem = Router(rows).match("PUT", "/x/1")
    assert isinstance(problem, Problem)
    assert problem.headers == (("allow", "GET, POST"),)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("plain", "plain"), ("a\r\nb\x00\u2028", "a??b??"), ("x" * 300, "x" * 256 + "..."), ("\u6a21 x", "\u6a21 x")],
)
def test_words_of_a_client_are_shown_printable_and_bounded(text: str, expected: str) -> None:
    assert shown(text) == expected


@pytest.mark.parametrize("path", ["/v1/responses/..", "/v1/models/../x", "/v1/models/%2e%2E/metrics", "/v1/files/.%2e"])
def test_path_that_an_engine_might_resolve_elsewhere_matches_nothing(path: str) -> None:
    found = ROUTER.match("GET", path)
    assert isinstance(found, Problem)
    assert found.http_status == 404


def test_paths_of_anthropic_are_those_of_its_rows() -> None:
    assert [row.id for row in OPERATIONS if row.anthropic is not is_anthropic(row.path)] == []
    assert is_anthropic("/v1/messages/batches")
    assert not is_anthropic("/v1/messages_of_others")


@pytest.mark.parametrize("row", OPERATIONS, ids=lambda row: row.id)
def test_columns_of_a_row_fit_one_another(row: Operation) -> None:
    assert (row.local is not None) is (row.action is Action.LOCAL)
    assert row.lacking_frontends <= {RUST_FRONTEND}
    of_engines = (row.tasks, row.engine_path, row.prompt_param, row.batch_name, row.never_short, row.makes_response)
    assert not any(of_engines) or row.action is Action.ROUTE
    assert not row.batch_name or row.prompt_param, "a line of a batch is refused without its prompt"


@pytest.mark.parametrize("row", OPERATIONS, ids=lambda row: row.id)
def test_errors_that_a_row_names_are_rows_of_errors_with_its_cause(row: Operation) -> None:
    for key in row.errors:
        assert key in ERRORS, "write the error's row: core/openai/contract/rows/errors_*.py"
        assert set(ERRORS[key].causes) & (
            {Cause.MODELS} if row.action is Action.LOCAL else {Cause.STORED, Cause.ENGINES, Cause.PLACEMENT}
        )
