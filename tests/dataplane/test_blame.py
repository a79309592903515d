"""500s of engines through real Envoy: how many engines a request meets, and what the client is told."""

from collections.abc import Iterator
from typing import Any, Final

import openai
import pytest

from tests.dataplane.engines import EngineSpec
from tests.dataplane.openai_error import assert_openai_error
from tests.dataplane.stack import Stack, running

PATH: Final = "/v1/chat/completions"
CHAT: Final[dict[str, Any]] = {"model": "chat-m", "messages": [{"role": "user", "content": "hello"}]}
SCHEMA: Final = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
FOUR: Final = tuple(EngineSpec(f"e{number}", ("chat-m",)) for number in range(4))

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(Stack(tmp_path_factory.mktemp("blame"), FOUR)) as stack:
        yield stack


@pytest.fixture(autouse=True)
def forgetful(stack: Stack) -> None:
    for engine in stack.engines_of("chat-m"):
        engine.forget()


def asked(stack: Stack) -> int:
    """How many requests have reached engines."""
    return sum(len(engine.requests(PATH)) for engine in stack.engines_of("chat-m"))


def failing(message: str) -> str:
    return f"status;code=500;message={message}"


def test_media_that_cannot_be_fetched_is_asked_of_one_engine_and_is_the_clients_fault(stack: Stack) -> None:
    answer = stack.post(PATH, CHAT, x_sim_fault=failing("Cannot connect to host img.example:80"))
    assert_openai_error(answer, 400, code="invalid_image_url")
    assert asked(stack) == 1


def test_constraint_that_an_engine_fails_on_is_the_clients_fault(stack: Stack) -> None:
    fault = failing("Internal server error")
    answer = stack.post(PATH, CHAT | {"response_format": SCHEMA}, x_sim_fault=fault)
    assert_openai_error(answer, 400, code="invalid_value", param="response_format")
    assert asked(stack) == 1
    answer = stack.post(PATH, CHAT, x_sim_fault=fault)
    assert_openai_error(answer, 500)
    assert answer.header("x-should-retry") == "false"
    assert asked(stack) == 2


def test_request_that_breaks_engines_meets_two_of_them_whatever_the_sdk_repeats(stack: Stack) -> None:
    dead = {"x-sim-fault": failing("The server had an error while processing your request.")}
    with stack.client(max_retries=2) as client, pytest.raises(openai.InternalServerError):
        client.chat.completions.create(**CHAT, extra_headers=dead)
    assert asked(stack) == 2


def test_failure_of_one_engine_is_no_failure_for_the_client(stack: Stack) -> None:
    engine = stack.engine("e0")
    engine.fail("status", code=500, path=PATH)
    try:
        with stack.client() as client:
            for _ in range(8):
                in_turn = {"routing-strategy": "round-robin"}  # the default may find that another one is quicker
                assert client.chat.completions.create(**CHAT, extra_headers=in_turn).choices[0].finish_reason == "stop"
        assert engine.requests(PATH)
    finally:
        engine.recover()


@pytest.mark.parametrize(
    "constraint",
    [
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"$ref": "#"}}}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": False}}},
        {"structured_outputs": {"grammar": "root ::= root"}},
    ],
    ids=["endless", "no-object", "grammar"],
)
def test_constraint_that_nothing_satisfies_reaches_no_engine(stack: Stack, constraint: dict[str, Any]) -> None:
    assert_openai_error(stack.post(PATH, CHAT | constraint), 400)
    assert asked(stack) == 0


def test_conversation_is_no_silent_loss(stack: Stack) -> None:
    answer = stack.post("/v1/responses", {"model": "chat-m", "input": "hi", "conversation": "conv_1"})
    assert_openai_error(answer, 400, code="unsupported_parameter", param="conversation")
    assert stack.post("/v1/responses", {"model": "chat-m", "input": "hi", "conversation": None}).status == 200
