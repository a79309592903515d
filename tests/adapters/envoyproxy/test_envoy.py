"""What clients see of a real Envoy: routing, failures of engines and of the processor, refused input."""

import asyncio
import json
from pathlib import Path

import aiohttp
import pytest

from aibrix_extproc.core.openai.contract.headers import DESTINATION
from tests.adapters.envoyproxy.rig import (
    RunningEnvoy,
    ScriptedEngine,
    ScriptedProcessor,
    known,
    reaches_processor,
    running_envoy,
)
from tests.waiting import until

pytestmark = [pytest.mark.envoy, pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]
OURS = b'{"error":{"message":"ours","type":"t","param":null,"code":null}}'


# ---- what is not placed reaches nothing


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_request_without_placement_gets_the_json_503(envoy: RunningEnvoy, method: str) -> None:
    async with ScriptedEngine().running() as engine:
        await known(envoy, engine)
        answer = await envoy.ask(method=method)
    assert (answer.status, answer.error["code"]) == (503, "gateway_unavailable")
    assert answer.headers["retry-after"] == "1"
    assert not engine.requests


@pytest.mark.parametrize("name", [DESTINATION, DESTINATION.upper(), "X-Gateway-Destination-Endpoint"])
async def test_forged_destination_reaches_no_engine(envoy: RunningEnvoy, name: str) -> None:
    async with ScriptedEngine().running() as engine:
        await known(envoy, engine)
        answers = [await envoy.ask(method=method, headers={name: engine.address}) for method in ("GET", "POST")]
        line = f"{name}: {engine.address}\r\n"
        twice = await envoy.raw(f"GET / HTTP/1.1\r\nhost: a\r\n{line}{line}\r\n".encode())
    assert [answer.status for answer in (*answers, twice)] == [503, 503, 503]
    assert not engine.requests
    assert DESTINATION not in str(envoy.processor.messages)


async def test_forged_destination_reaches_no_engine_without_a_processor(envoy: RunningEnvoy) -> None:
    async with ScriptedEngine().running() as engine:
        await known(envoy, engine)
        await envoy.processor.kill()
        answer = await envoy.ask(headers={DESTINATION: engine.address})
    assert (answer.status, answer.error["code"]) == (503, "gateway_unavailable")
    assert not engine.requests


@pytest.mark.parametrize("place", ["127.0.0.1:9", "nonsense", "http://127.0.0.1", ",", "[::1]:9,127.0.0.1:9"])
async def test_placement_at_an_unknown_address_reaches_no_engine(envoy: RunningEnvoy, place: str) -> None:
    async with ScriptedEngine().running() as engine:
        await known(envoy, engine)
        envoy.processor.place = place
        answer = await envoy.ask()
    assert (answer.status, answer.error["code"]) == (503, "no_healthy_upstream")
    assert not engine.requests


async def test_placement_that_is_used_up_reaches_no_other_engine(envoy: RunningEnvoy) -> None:
    async with ScriptedEngine().running() as other, ScriptedEngine("busy").running() as busy:
        await known(envoy, other, busy)
        envoy.processor.place = busy.address
        answer = await envoy.ask()
    assert (answer.status, answer.error["code"]) == (503, "no_healthy_upstream")
    assert len(busy.requests) == 1
    assert not other.requests


async def test_clients_cannot_steer_envoy_or_choose_the_request_id(envoy: RunningEnvoy) -> None:
    async with ScriptedEngine("busy").running() as busy:
        await known(envoy, busy)
        envoy.processor.place = ",".join([busy.address] * 10)
        answer = await envoy.ask(headers={"x-envoy-max-retries": "9", "x-envoy-foo": "1", "x-request-id": "mine"})
    assert len(busy.requests) == 4  # three retries, as configured
    assert b"x-envoy" not in busy.requests[0].lower()
    assert answer.headers["x-request-id"] != "mine"
    assert answer.headers["x-request-id"].encode() in busy.requests[0]


# ---- placed requests and engines that fail


@pytest.mark.parametrize("failure", ["refuse", "reset", "busy"])
async def test_failing_engine_costs_the_client_nothing(envoy: RunningEnvoy, failure: str) -> None:
    async with ScriptedEngine(failure).running() as bad, ScriptedEngine().running() as good:
        await known(envoy, bad, good)
        envoy.processor.place = f"{bad.address},{good.address}"
        answer = await envoy.ask()
    assert answer.status == 200
    assert json.loads(answer.body) == {"served_by": good.port}
    assert "server" not in answer.headers


async def test_candidates_are_tried_in_order_until_one_answers(envoy: RunningEnvoy) -> None:
    async with (
        ScriptedEngine("reset").running() as first,
        ScriptedEngine("busy").running() as second,
        ScriptedEngine("refuse").running() as third,
        ScriptedEngine().running() as last,
    ):
        await known(envoy, first, second, third, last)
        envoy.processor.place = ",".join(one.address for one in (first, second, third, last))
        answer = await envoy.ask()
    assert json.loads(answer.body) == {"served_by": last.port}
    seen = [request_id(head) for engine in (first, second, last) for head in engine.requests]
    assert seen == [f"{answer.headers['x-request-id']}-{attempt}" for attempt in (1, 2, 4)]


def request_id(head: bytes) -> str:
    """The id in the head of a request that an engine saw."""
    (line,) = [line for line in head.decode().split("\r\n") if line.lower().startswith("x-request-id: ")]
    return line.partition(": ")[2]


@pytest.mark.parametrize(("failure", "code"), [("refuse", "no_healthy_upstream"), ("reset", "upstream_reset")])
async def test_candidates_that_all_fail_give_an_openai_error(envoy: RunningEnvoy, failure: str, code: str) -> None:
    async with ScriptedEngine(failure).running() as bad:
        await known(envoy, bad)
        envoy.processor.place = ",".join([bad.address] * 4)
        answer = await envoy.ask()
    assert (answer.status, answer.error["code"]) == (503, code)
    assert answer.headers["retry-after"] == "1"
    assert bad.address not in answer.body.decode()
    assert {request_id(head)[:-2] for head in bad.requests} <= {answer.headers["x-request-id"]}


async def test_busy_answer_of_the_last_candidate_passes_unchanged(envoy: RunningEnvoy) -> None:
    async with ScriptedEngine("busy").running() as busy:
        await known(envoy, busy)
        envoy.processor.place = ",".join([busy.address] * 4)
        answer = await envoy.ask()
    assert (answer.status, json.loads(answer.body)) == (503, {"served_by": busy.port})
    assert envoy.processor.attributes("response_headers")["response.code_details"] == "via_upstream"


async def test_processor_is_told_what_happened(envoy: RunningEnvoy) -> None:
    async with ScriptedEngine().running() as engine:
        await known(envoy, engine)
        envoy.processor.place = engine.address
        answer = await envoy.ask("/v1/models/a%2Fb?x=1")
    told = envoy.processor.attributes("response_headers")
    assert told["upstream.address"] == engine.address
    assert told["response.code_details"] == "via_upstream"
    assert told["request.id"] == answer.headers["x-request-id"] + "-1"  # as the engine saw it
    assert [one.WhichOneof("request") for one in envoy.processor.messages] == [
        "request_headers",
        "request_body",
        "response_headers",
    ]


async def test_changed_endpoint_file_is_followed_without_a_restart(envoy: RunningEnvoy) -> None:
    async with ScriptedEngine().running() as old, ScriptedEngine().running() as new:
        await known(envoy, old)
        envoy.processor.place = f"{new.address},{old.address}"
        assert json.loads((await envoy.ask()).body) == {"served_by": old.port}
        await known(envoy, old, new)

        async def moved() -> bool:
            served: dict[str, int] = json.loads((await envoy.ask()).body)
            return served == {"served_by": new.port}

        await until(moved, "the new engine is used")


# ---- the processor fails


async def test_lost_processor_gives_json_at_once_and_heals(envoy: RunningEnvoy) -> None:
    async with ScriptedEngine().running() as engine:
        await known(envoy, engine)
        envoy.processor.place = engine.address
        await envoy.processor.kill()
        for method in ("GET", "POST"):
            async with asyncio.timeout(30):  # half of the time that a processor has for a message
                answer = await envoy.ask(method=method)
            assert (answer.status, answer.error["code"]) == (503, "gateway_unavailable")
        await envoy.processor.start()

        async def healed() -> bool:
            return (await envoy.ask()).status == 200

        await until(healed, "requests are served again")


async def test_loss_of_one_of_two_processors_costs_few_requests(tmp_path: Path, processor: ScriptedProcessor) -> None:
    second = ScriptedProcessor()
    await second.start()
    async with (
        running_envoy(tmp_path, processor, second) as envoy,
        ScriptedEngine().running() as engine,
    ):
        await envoy.wait_for_processors(2)
        await known(envoy, engine)
        processor.place = second.place = engine.address

        async def both_are_used() -> bool:
            return (await envoy.ask()).status == 200 and bool(processor.messages) and bool(second.messages)

        await until(both_are_used, "both processors are used")
        await second.kill()
        statuses = [(await envoy.ask()).status for _ in range(60)]
    assert set(statuses) <= {200, 503}
    assert statuses.count(503) <= 8  # half of those before the next health check, were it not for outlier detection


async def ejections(envoy: RunningEnvoy) -> int:
    name = "cluster.processors.outlier_detection.ejections_enforced_total"
    said = await envoy.admin(f"/stats?filter={name}")
    assert said.startswith(f"{name}: ")
    return int(said.rpartition(" ")[2])


async def test_ordinary_trouble_never_ejects_the_only_processor(envoy: RunningEnvoy) -> None:
    async with ScriptedEngine("stream").running() as engine, aiohttp.ClientSession() as session:
        await known(envoy, engine)
        envoy.processor.place = engine.address
        before = await ejections(envoy)
        for _ in range(10):  # clients that leave in the middle of a stream
            response = await session.post(envoy.url + "/v1/chat/completions", data=b"{}")
            await response.content.readany()
            response.close()
        envoy.processor.abort = True
        for _ in range(10):
            await envoy.ask()
        envoy.processor.abort, envoy.processor.immediate = False, (404, "application/json", OURS)
        assert (await envoy.ask()).status == 404
    assert await ejections(envoy) == before


async def test_running_stream_survives_the_loss_of_the_processor(envoy: RunningEnvoy) -> None:
    async with ScriptedEngine("stream").running() as engine, aiohttp.ClientSession() as session:
        await known(envoy, engine)
        envoy.processor.place = engine.address
        async with session.post(envoy.url + "/v1/chat/completions", data=b"{}") as response:
            first = await response.content.readuntil(b"\n\n")
            await envoy.processor.kill()
            await envoy.wait_for_processors(0)
            engine.hold.set()
            rest = await response.content.read()
    assert (first, rest) == (b"data: 1\n\n", b"data: [DONE]\n\n")


async def test_processor_that_aborts_gives_the_json_503(envoy: RunningEnvoy) -> None:
    async with ScriptedEngine().running() as engine:
        await known(envoy, engine)
        envoy.processor.place, envoy.processor.abort = engine.address, True
        answer = await envoy.ask()
    assert (answer.status, answer.error["code"]) == (503, "gateway_unavailable")
    assert not engine.requests


async def test_processor_that_hangs_gives_the_json_503_after_the_message_timeout(
    tmp_path: Path, processor: ScriptedProcessor
) -> None:
    async with running_envoy(tmp_path, processor, message_timeout=0.3) as envoy:
        await until(lambda: reaches_processor(envoy), "Envoy's threads see the processor")
        processor.hang = True
        answer = await envoy.ask()
    assert (answer.status, answer.error["code"]) == (503, "gateway_unavailable")


@pytest.mark.parametrize("status", [400, 404, 413, 429, 431, 500, 502, 503, 504])
async def test_answer_of_the_processor_is_not_rewritten(envoy: RunningEnvoy, status: int) -> None:
    envoy.processor.immediate = (status, "application/json", OURS)
    answer = await envoy.ask()
    assert (answer.status, answer.body) == (status, OURS)
    assert answer.error["message"] == "ours"
