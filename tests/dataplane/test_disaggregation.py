"""Prefill/decode disaggregation through a real Envoy: who gets what of a request, and what happens when one fails.

The simulated engines keep the blocks of a prompt until they are read once, and a decode engine that cannot read those
which it is told of answers with a 500, as vLLM does by default.
"""

import asyncio
import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.dataplane.engines import Engine, EngineSpec, header
from tests.dataplane.raw import Answer
from tests.dataplane.stack import METERED, Stack, running
from tests.waiting import eventually

pytestmark = pytest.mark.slow

CONNECTOR = ("--kv-connector", "--enable-prompt-tokens-details")


def an_engine(name: str, role: str, role_set: str = "a") -> EngineSpec:
    return EngineSpec(name, ("chat-m",), CONNECTOR, {"role-name": role, "roleset-name": role_set})


FLEET = (an_engine("p1", "prefill"), an_engine("p2", "prefill"), an_engine("d1", "decode"))
SERVE = (
    "--metering", "--server-max-message-timeout-seconds", "60", "--disaggregation-prefill-seconds", "10",
    "--fleet-poll-seconds", "0.3",
)  # fmt: skip
CHAT = "/v1/chat/completions"
KEY = "sk-test-0123456789abcdefghij"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    directory = tmp_path_factory.mktemp("disaggregation")
    with running(Stack(directory, FLEET, killable=True, serve_arguments=SERVE, envoy_options=METERED)) as started:
        yield started


@pytest.fixture(autouse=True)
def usual(stack: Stack) -> None:
    """No engine fails, and none is avoided because it has failed."""
    for engine in engines(stack):
        engine.recover()
    eventually(lambda: _ready(stack) == 3, "engines that have failed are asked again")
    eventually(lambda: record(stack, ask(stack, chat())[1])["prefill"]["outcome"] == "remote", "all is as usual")


def engines(stack: Stack) -> list[Engine]:
    return [stack.engine(name) for name in ("p1", "p2", "d1")]


NUMBERS = iter(range(1_000_000))


def prompt(words: int = 600) -> list[dict[str, str]]:
    """A prompt that no engine has seen."""
    number = next(NUMBERS)
    return [{"role": "user", "content": " ".join(f"w{number}-{place}" for place in range(words))}]


def chat(**members: object) -> dict[str, Any]:
    return {"model": "chat-m", "messages": prompt(), "max_tokens": 5, **members}


def ask(stack: Stack, body: object, path: str = CHAT) -> tuple[Answer, str]:
    """The answer, and the id of the request."""
    answer = stack.post(path, body)
    return answer, answer.header("x-request-id") or ""


def asked(stack: Stack, marker: str) -> dict[str, dict[str, Any]]:
    """What each engine got of the request with this id, as it remembers it."""
    found = {}
    for engine in engines(stack):
        for one in engine.requests(bodies=True):
            if (header(one, "x-request-id") or "").startswith(marker):
                found[engine.spec.name] = one | {"json": json.loads(one["body"])}
    return found


def record(stack: Stack, request_id: str) -> dict[str, Any]:
    found: dict[str, Any] = stack.worker.admin(f"/decisions/{request_id}").json()
    return found


def test_a_prompt_is_computed_by_a_prefill_engine_and_taken_over(stack: Stack) -> None:
    before = stack.engine("d1").stats()["kv_transfers_received"]
    answer, name = ask(stack, chat(stream=True, min_tokens=2))
    assert answer.status == 200
    assert b"[DONE]" in answer.body
    got = asked(stack, name)
    (prefill,) = got.keys() - {"d1"}
    first, second = got[prefill]["json"], got["d1"]["json"]
    assert (first["max_tokens"], first["max_completion_tokens"], first["min_tokens"]) == (1, 1, 0)
    assert (first["stream"], first["kv_transfer_params"]["do_remote_decode"]) == (False, True)
    assert (second["max_tokens"], second["stream"], second["min_tokens"]) == (5, True, 2)
    assert second["kv_transfer_params"]["do_remote_prefill"] is True
    assert second["messages"] == first["messages"]
    assert stack.engine("d1").stats()["kv_transfers_received"] == before + 1
    said = record(stack, name)
    assert said["strategy"] == "pd"
    assert said["prefill"]["outcome"] == "remote"
    assert said["prefill"]["engine"] == stack.engine(prefill).address
    assert said["prefill"]["seconds"] > 0
    assert said["prefill"]["predicted_seconds"] > 0


def test_a_short_prompt_and_a_cached_one_go_straight_to_the_decode_engine(stack: Stack) -> None:
    messages = prompt()
    for wanted in ("remote", "short"):
        assert stack.worker.explain(chat(messages=messages))["prefill"]["outcome"] == wanted
        _, name = ask(stack, chat(messages=messages))
        assert record(stack, name)["prefill"]["outcome"] == wanted
    _, name = ask(stack, chat(messages=prompt(10)))
    assert record(stack, name)["prefill"]["outcome"] == "short"
    assert asked(stack, name).keys() == {"d1"}


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"n": 2}, CHAT),
        ({"messages": None, "prompt": ["one " * 600, "two " * 600]}, "/v1/completions"),
        ({"messages": None, "prompt": "three " * 600, "echo": True}, "/v1/completions"),
    ],
    ids=["several-answers", "several-prompts", "echo"],
)
def test_requests_that_cannot_be_split_are_answered_by_the_decode_engine_alone(
    stack: Stack, changes: Mapping[str, object], path: str
) -> None:
    body = {key: value for key, value in (chat() | dict(changes)).items() if value is not None}
    answer, name = ask(stack, body, path)
    assert answer.status == 200
    assert record(stack, name)["prefill"]["outcome"] == "unsuited"
    assert asked(stack, name).keys() == {"d1"}


@pytest.mark.parametrize("fault", ["status", "reset-before-headers", "malformed-json", "stall", "reset-mid-stream"])
def test_another_prefill_engine_computes_the_prompt_when_one_fails(stack: Stack, fault: str) -> None:
    stack.engine("p1").fail(fault, path=CHAT, count=1)
    stack.engine("p2").fail(fault, path=CHAT, count=1)
    answer, first = ask(stack, chat())
    assert answer.status == 200
    said = record(stack, first)["prefill"]
    assert said["outcome"] == "failed"  # each of them once
    assert len(said["failures"]) == 2
    assert asked(stack, first)["d1"]["json"].get("kv_transfer_params") is None
    _, second = ask(stack, chat())
    assert record(stack, second)["prefill"]["outcome"] in ("overflow", "remote")  # who has just failed is avoided


def test_what_a_prefill_engine_refuses_is_not_asked_of_another(stack: Stack) -> None:
    for name in ("p1", "p2"):
        stack.engine(name).fail("status", path=CHAT, code=400)
    answer, name = ask(stack, chat())
    assert answer.status == 200
    said = record(stack, name)["prefill"]
    assert (said["outcome"], len(said["failures"])) == ("refused", 1)


def test_tokens_of_the_prefill_are_not_counted_twice(stack: Stack) -> None:
    def counted() -> float:
        return stack.worker.total("aibrix_extproc_tokens_total", kind="input")

    before = counted()
    used = ask(stack, chat(messages=prompt(3000)))[0].json()["usage"]["prompt_tokens"]
    eventually(lambda: counted() >= before + used, "the prompt is counted")
    assert counted() < before + 1.9 * used  # there may be others of before, which are short


async def test_a_client_that_leaves_ends_the_prefill(stack: Stack) -> None:
    for name in ("p1", "p2"):
        stack.engine(name).fail("stall", path=CHAT)
    async with stack.async_client() as client:
        leaving = asyncio.create_task(client.chat.completions.create(**chat(max_tokens=3)))
        await asyncio.to_thread(
            eventually, lambda: stack.worker.total("aibrix_extproc_prefills") == 1, "a prefill engine is asked"
        )
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
    await asyncio.to_thread(
        eventually, lambda: stack.worker.total("aibrix_extproc_prefills") == 0, "the prefill has ended", seconds=8.0
    )
    assert stack.worker.total("aibrix_extproc_in_flight") == 0


@pytest.mark.parametrize("fault", ["reset-before-headers", "status"])
def test_a_decode_engine_that_fails_after_the_prefill_costs_a_503_that_is_worth_another_try(
    stack: Stack, fault: str
) -> None:
    stack.engine("d1").fail(fault, path=CHAT, count=1)  # another attempt would be served, out of blocks that are freed
    answer, name = ask(stack, chat())
    assert (answer.status, record(stack, name)["prefill"]["outcome"]) == (503, "remote")
    assert answer.header("retry-after")
    assert sum((header(one, "x-request-id") or "").startswith(name) for one in stack.engine("d1").requests()) == 1
    stack.engine("d1").recover()
    eventually(lambda: _ready(stack) == 3, "the decode engine is back")
    assert ask(stack, chat())[0].status == 200


def _ready(stack: Stack) -> int:
    found = stack.worker.admin("/fleet").json()["endpoints"]
    return sum(one["health"] == "ready" for one in found)
