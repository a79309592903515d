"""Queue, pause, sleep, abort, prefix cache, adapters and metrics, over HTTP."""

import asyncio
from typing import Any

import aiohttp
import pytest

from aibrix_extproc.simulator.options import LoraModule, SimulatorOptions
from aibrix_extproc.simulator.server import Simulator
from tests.simulator.conversation import HELLO, STREAM, chat_url, events, post
from tests.waiting import until

SLOW = {"x-sim-itl-ms": "60000"}


async def scrape(http: aiohttp.ClientSession, sim: Simulator) -> dict[str, float]:
    async with http.get(f"{sim.url}/metrics") as response:
        assert response.content_type == "text/plain"
        lines = (await response.text()).splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}


async def control(http: aiohttp.ClientSession, sim: Simulator, method: str, path: str) -> Any:
    async with http.request(method, f"{sim.url}{path}") as response:
        assert response.status == 200, await response.text()
        return await response.json()


def common(name: str, **extra: str) -> str:
    labels = sorted({"engine": "0", "model_name": "sim-model", **extra}.items())
    inside = ",".join(f'{key}="{value}"' for key, value in labels)
    return f"vllm:{name}{{{inside}}}"


async def test_full_queue_is_a_503_also_for_streams(http: aiohttp.ClientSession) -> None:
    async with Simulator(SimulatorOptions(max_num_seqs=1, max_num_queued_reqs=1)) as sim, asyncio.TaskGroup() as group:
        held = [group.create_task(post(http, chat_url(sim), HELLO, SLOW)) for _ in range(2)]
        await until(lambda: len(sim.engine.scheduler.waiting) == 1)
        for body in (HELLO, STREAM):
            async with http.post(chat_url(sim), json=body) as response:
                assert (response.status, response.content_type) == (503, "application/json")
                assert "Retry-After" not in response.headers
                error = (await response.json())["error"]
        assert (error["type"], error["code"]) == ("Service Unavailable", 503)
        figures = await scrape(http, sim)
        assert figures[common("num_requests_running")] == 1
        assert figures[common("num_requests_waiting")] == 1
        assert figures[common("num_requests_waiting_by_reason", reason="capacity")] == 1
        rejected = 'vllm:admission_rejections_total{model_name="sim-model",reason="max_num_queued_reqs"}'
        assert figures[rejected] == 2
        for task in held:
            task.cancel()
        await until(lambda: not sim.engine.scheduler.running and not sim.engine.scheduler.waiting)


async def test_waiting_request_runs_when_the_other_ends(http: aiohttp.ClientSession) -> None:
    async with Simulator(SimulatorOptions(max_num_seqs=1, itl_ms=1)) as sim:
        answers = await asyncio.gather(*(post(http, chat_url(sim), HELLO) for _ in range(5)))
    assert [status for status, _ in answers] == [200] * 5


@pytest.mark.parametrize("body", [HELLO, STREAM])
async def test_client_that_leaves_is_an_abort(sim: Simulator, http: aiohttp.ClientSession, body: Any) -> None:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(post(http, chat_url(sim), body, SLOW))
        await until(lambda: bool(sim.engine.scheduler.running))
        task.cancel()
    await until(lambda: not sim.engine.scheduler.running)
    figures = await scrape(http, sim)
    assert figures[common("request_success_total", finished_reason="abort")] == 1
    assert figures[common("num_requests_running")] == 0


@pytest.mark.parametrize(
    ("halt", "go_on", "asked"),
    [("/pause", "/resume", "/is_paused"), ("/sleep?level=1", "/wake_up", "/is_sleeping")],
)
async def test_halted_engine_aborts_what_runs_and_hangs_what_comes(
    sim: Simulator, http: aiohttp.ClientSession, halt: str, go_on: str, asked: str
) -> None:
    flag = asked.removeprefix("/")
    async with asyncio.TaskGroup() as group:
        running = group.create_task(post(http, chat_url(sim), HELLO, SLOW))
        await until(lambda: bool(sim.engine.scheduler.running))
        await control(http, sim, "POST", halt)
        status, body = await running
        assert (status, body["choices"][0]["finish_reason"]) == (200, "abort")
        hanging = group.create_task(post(http, chat_url(sim), HELLO))
        await until(lambda: bool(sim.engine.scheduler.waiting))
        assert await control(http, sim, "GET", asked) == {flag: True}
        async with http.get(f"{sim.url}/health") as response:
            assert (response.status, await response.read()) == (200, b"")
        awake = (await scrape(http, sim))[common("engine_sleep_state", sleep_state="awake")]
        assert awake == (1 if flag == "is_paused" else 0)
        assert not hanging.done()
        await control(http, sim, "POST", go_on)
        assert (await hanging)[0] == 200
    assert await control(http, sim, "GET", asked) == {flag: False}


async def test_aborted_stream_ends_properly(sim: Simulator, http: aiohttp.ClientSession) -> None:
    async with http.post(chat_url(sim), json=STREAM, headers=SLOW) as response:
        await response.content.readany()
        await control(http, sim, "POST", "/pause")
        found = events(await response.read())
    assert found[-1] == "[DONE]"
    assert found[-2]["choices"][0]["finish_reason"] == "abort"


async def test_sleep_and_pause_are_one_state_that_only_wake_up_ends_for_sure(
    sim: Simulator, http: aiohttp.ClientSession
) -> None:
    async def flags() -> tuple[bool, bool]:
        paused = await control(http, sim, "GET", "/is_paused")
        return paused["is_paused"], (await control(http, sim, "GET", "/is_sleeping"))["is_sleeping"]

    await control(http, sim, "POST", "/pause")
    assert await flags() == (True, True)
    await control(http, sim, "POST", "/wake_up")
    assert await flags() == (False, False)
    await control(http, sim, "POST", "/sleep")
    assert await flags() == (True, True)
    await control(http, sim, "POST", "/resume")
    assert await flags() == (False, True)
    await control(http, sim, "POST", "/wake_up")
    assert await flags() == (False, False)


async def test_pause_with_wait_lets_running_requests_finish(sim: Simulator, http: aiohttp.ClientSession) -> None:
    async with asyncio.TaskGroup() as group:
        running = group.create_task(post(http, chat_url(sim), HELLO, {"x-sim-itl-ms": "3"}))
        await until(lambda: bool(sim.engine.scheduler.running))
        await control(http, sim, "POST", "/pause?mode=wait")
        assert not sim.engine.scheduler.running
    assert running.result()[1]["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize(("version", "mode", "refuses"), [
    ("0.33.0", "abort", True), ("0.33.0", "wait", True), ("0.33.0", "keep", False), ("0.32.0", "abort", False),
])  # fmt: skip
async def test_paused_engine_of_033_refuses_new_requests(
    version: str, mode: str, refuses: bool, http: aiohttp.ClientSession
) -> None:
    async with Simulator(SimulatorOptions(version=version)) as sim:
        await control(http, sim, "POST", f"/pause?mode={mode}")
        asking = asyncio.ensure_future(post(http, chat_url(sim), HELLO))
        if refuses:
            status, body = await asking
            assert (status, body["error"]["message"]) == (503, "Generation is paused. Please retry after it resumes.")
        else:
            await until(lambda: bool(sim.engine.scheduler.waiting))
        await control(http, sim, "POST", "/wake_up")
        again = asking if not refuses else asyncio.ensure_future(post(http, chat_url(sim), HELLO))
        assert (await again)[0] == 200


async def test_update_of_weights_changes_their_checksums_and_their_version(http: aiohttp.ClientSession) -> None:
    async with Simulator(SimulatorOptions(weight_transfer=True)) as sim:
        before = await checksums(http, sim)
        for path, body in (
            ("start_weight_update", None), ("update_weights", {"update_info": {"names": ["w"]}}),
            ("finish_weight_update", {"weight_version": "v2"}),
        ):  # fmt: skip
            assert (await post(http, f"{sim.url}/{path}", body))[0] == 200
        assert (await control(http, sim, "GET", "/weight_info")) == {"weight_version": "v2"}
        assert (await checksums(http, sim)).keys() == before.keys()
        assert set((await checksums(http, sim)).values()).isdisjoint(before.values())


async def checksums(http: aiohttp.ClientSession, sim: Simulator) -> dict[str, str]:
    _, body = await post(http, f"{sim.url}/weight_checker", {"action": "checksum"})
    found: dict[str, str] = body["checksums"]
    return found


async def test_abort_ends_running_requests(sim: Simulator, http: aiohttp.ClientSession) -> None:
    pace = {"x-sim-itl-ms": "50", "x-sim-tokens": "1000", "x-request-id": "mine"}
    running = asyncio.ensure_future(post(http, chat_url(sim), HELLO, pace))
    await until(lambda: bool(sim.engine.scheduler.running))
    for ids in (["chatcmpl-other"], ["chatcmpl-mine"]):
        assert not running.done()
        status, body = await post(http, f"{sim.url}/abort_requests", {"request_ids": ids})
        assert (status, body) == (200, {"status": "aborted", "aborted": 1})  # unknown ids count, too
    assert (await running)[1]["choices"][0]["finish_reason"] == "abort"


async def test_pause_with_keep_freezes_and_goes_on(sim: Simulator, http: aiohttp.ClientSession) -> None:
    async with asyncio.TaskGroup() as group:
        pace = {"x-sim-itl-ms": "20", "x-sim-tokens": "5"}
        running = group.create_task(post(http, chat_url(sim), HELLO, pace))
        await until(lambda: bool(sim.engine.scheduler.running))
        await sim.engine.pause("keep")
        _, pending = await asyncio.wait([running], timeout=0.12)
        assert pending
        await control(http, sim, "POST", "/resume")
    assert running.result()[1]["usage"]["completion_tokens"] == 5


async def test_bad_mode_is_refused(sim: Simulator, http: aiohttp.ClientSession) -> None:
    status, body = await post(http, f"{sim.url}/pause?mode=later", None)
    assert (status, body["error"]["param"]) == (400, "query.mode")


async def test_second_turn_finds_the_first_one_in_the_prefix_cache(http: aiohttp.ClientSession) -> None:
    async with Simulator(SimulatorOptions(prompt_tokens_details=True)) as sim:
        messages: list[Any] = [{"role": "user", "content": "tell me a story " * 20}]
        _, first = await post(http, chat_url(sim), {"messages": messages, "max_tokens": 100, "ignore_eos": True})
        assert first["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
        messages += [first["choices"][0]["message"], {"role": "user", "content": "more"}]
        messages[1] = {"role": "assistant", "content": messages[1]["content"]}
        _, second = await post(http, chat_url(sim), {"messages": messages})
        cached = second["usage"]["prompt_tokens_details"]["cached_tokens"]
        assert cached >= first["usage"]["total_tokens"] - 16
        figures = await scrape(http, sim)
        assert figures[common("prefix_cache_hits_total")] == cached
        assert figures[common("prompt_tokens_by_source_total", source="local_cache_hit")] == cached
        _, salted = await post(http, chat_url(sim), {"messages": messages, "cache_salt": "x"})
        assert salted["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
        assert await control(http, sim, "POST", "/reset_prefix_cache") == {"success": True}
        _, again = await post(http, chat_url(sim), {"messages": messages})
        assert again["usage"]["prompt_tokens_details"]["cached_tokens"] == 0


async def test_prefix_cache_is_not_reset_while_blocks_are_held(sim: Simulator, http: aiohttp.ClientSession) -> None:
    async with http.post(chat_url(sim), json=STREAM, headers=SLOW):
        assert await control(http, sim, "POST", "/reset_prefix_cache") == {"success": False}


async def test_prefill_takes_time_for_uncached_tokens_only(http: aiohttp.ClientSession) -> None:
    async with Simulator(SimulatorOptions(prefill_us_per_token=500)) as sim:
        body = {"messages": [{"role": "user", "content": "x" * 4000}]}
        loop = asyncio.get_running_loop()
        times = []
        for _ in range(2):
            started_at = loop.time()
            await post(http, chat_url(sim), body)
            times.append(loop.time() - started_at)
    assert times[0] >= 0.5
    assert times[1] < times[0]


async def test_adapters_load_serve_and_unload(http: aiohttp.ClientSession) -> None:
    async with Simulator() as sim:
        load, unload = f"{sim.url}/v1/load_lora_adapter", f"{sim.url}/v1/unload_lora_adapter"
        async with http.post(load, json={"lora_name": "l1", "lora_path": "/l1"}) as response:
            assert (response.status, response.headers.get("Content-Type")) == (200, None)
            assert await response.text() == "Success: LoRA adapter 'l1' added successfully."
        status, body = await post(http, load, {"lora_name": "l1", "lora_path": "/l1"})
        assert (status, body["error"]["type"]) == (400, "InvalidUserInput")
        status, body = await post(http, load, {"lora_name": "sim-model", "lora_path": "/l1"})
        assert status == 400
        status, body = await post(http, load, {"lora_name": "l2", "lora_path": "/nope"})
        assert (status, body["error"]["message"]) == (404, "Loading lora l2 failed: No adapter found for /nope")
        async with http.post(chat_url(sim), json={**STREAM, "model": "l1"}, headers=SLOW):
            figures = await scrape(http, sim)
        running = 'vllm:lora_requests_info{max_lora="4",running_lora_adapters="l1",waiting_lora_adapters=""}'
        assert figures[running] > 1.7e9
        async with http.post(unload, json={"lora_name": "l1"}) as response:
            assert (response.status, await response.read()) == (
                200,
                b"Success: LoRA adapter 'l1' removed successfully.",
            )
        status, body = await post(http, unload, {"lora_name": "l1"})
        assert (status, body["error"]["message"]) == (404, "The lora adapter 'l1' cannot be found.")
        assert (await post(http, chat_url(sim), {**HELLO, "model": "l1"}))[0] == 404


async def test_adapters_above_the_limit_wait_deferred(http: aiohttp.ClientSession) -> None:
    options = SimulatorOptions(loras=(LoraModule("a", "/a"), LoraModule("b", "/b")), max_loras=1)
    async with Simulator(options) as sim, asyncio.TaskGroup() as group:
        tasks = [group.create_task(post(http, chat_url(sim), {**HELLO, "model": name}, SLOW)) for name in "ab"]
        await until(lambda: bool(sim.engine.scheduler.waiting))
        figures = await scrape(http, sim)
        assert figures[common("num_requests_waiting_by_reason", reason="deferred")] == 1
        for task in tasks:
            task.cancel()


async def test_tokens_and_latencies_are_counted(http: aiohttp.ClientSession) -> None:
    async with Simulator() as sim:
        _, body = await post(http, chat_url(sim), {**HELLO, "max_tokens": 3})
        await post(http, chat_url(sim), HELLO)
        figures = await scrape(http, sim)
    assert figures[common("generation_tokens_total")] == 19
    assert figures[common("prompt_tokens_total")] == 2 * body["usage"]["prompt_tokens"]
    assert figures[common("request_success_total", finished_reason="length")] == 1
    assert figures[common("request_success_total", finished_reason="stop")] == 1
    assert figures[common("time_to_first_token_seconds_count")] == 2
    assert figures[common("e2e_request_latency_seconds_bucket", le="+Inf")] == 2
    assert figures[common("inter_token_latency_seconds_count")] == 2 + 15
    assert figures['http_requests_total{handler="/v1/chat/completions",method="POST",status="2xx"}'] == 2


async def test_request_id_and_load_headers_follow_the_request(sim: Simulator, http: aiohttp.ClientSession) -> None:
    headers = {"X-Request-Id": "abc", "endpoint-load-metrics-format": "TEXT"}
    async with http.post(chat_url(sim), json=HELLO, headers=headers) as response:
        assert (await response.json())["id"] == "chatcmpl-abc"
        assert response.headers["endpoint-load-metrics"] == (
            "TEXT named_metrics.num_requests_waiting=0.0, named_metrics.kv_cache_usage_perc=0.0"
        )
        assert "X-Request-Id" not in response.headers
        assert response.headers["Keep-Alive"] == "timeout=5"
        assert response.headers["Vary"] == "Origin"


async def test_request_id_is_echoed_or_made_when_wished(http: aiohttp.ClientSession) -> None:
    async with Simulator(SimulatorOptions(request_id_headers=True)) as sim:
        async with http.post(chat_url(sim), json=HELLO, headers={"X-Request-Id": "abc"}) as response:
            assert response.headers["X-Request-Id"] == "abc"
        async with http.get(f"{sim.url}/nope") as response:
            assert len(response.headers["X-Request-Id"]) == 32


async def test_pace_headers_set_length_text_and_writes(sim: Simulator, http: aiohttp.ClientSession) -> None:
    _, body = await post(http, chat_url(sim), HELLO, {"x-sim-tokens": "100"})
    assert body["usage"]["completion_tokens"] == 100
    _, body = await post(http, chat_url(sim), HELLO, {"x-sim-text": "exactly this"})
    assert body["choices"][0]["message"]["content"] == "exactly this"
    _, body = await post(http, chat_url(sim), HELLO, {"x-sim-reasoning": "4"})
    assert body["choices"][0]["message"]["reasoning"]
    pace = {"x-sim-tokens": "9", "x-sim-tokens-per-write": "3", "x-sim-itl-ms": "1"}
    async with http.post(chat_url(sim), json=STREAM, headers=pace) as response:
        found = events(await response.read())
    # The role, the tokens (the last one with the finish reason), the end.
    assert len(found) == 1 + 9 + 1
    assert found[-2]["choices"][0]["finish_reason"] == "stop"
    assert found[-2]["choices"][0]["delta"]["content"]
    status, _ = await post(http, chat_url(sim), HELLO, {"x-sim-tokens": "many"})
    assert status == 400


async def test_recorder_shows_what_the_engine_saw(sim: Simulator, http: aiohttp.ClientSession) -> None:
    await post(http, chat_url(sim), HELLO, {"X-Mark": "one"})
    shown = (await control(http, sim, "GET", "/sim/requests?path=/v1&body=1"))["requests"]
    assert [(entry["method"], entry["path"], entry["status"]) for entry in shown] == [
        ("POST", "/v1/chat/completions", 200)
    ]
    assert ["X-Mark", "one"] in shown[0]["headers"]
    assert len(shown[0]["body"]) == shown[0]["body_bytes"]
    assert len(shown[0]["body_sha256"]) == 64
    assert sim.app.recorder.recent()[0].header("x-mark") == "one"
    for value, number in (("one", 1), ("two", 0)):
        marked = await control(http, sim, "GET", f"/sim/requests?header=x-mark%3D{value}")
        assert len(marked["requests"]) == number
    await control(http, sim, "DELETE", "/sim/requests")
    assert (await control(http, sim, "GET", "/sim/requests"))["requests"] == []
    assert (await control(http, sim, "GET", "/sim/stats"))["finished"]["stop"] == 1


async def test_engine_without_admin_has_no_sim_routes_and_obeys_no_sim_headers(http: aiohttp.ClientSession) -> None:
    async with Simulator(SimulatorOptions(admin=False)) as sim:
        async with http.get(f"{sim.url}/sim/stats") as response:
            assert response.status == 404
        status, body = await post(http, chat_url(sim), HELLO, {"x-sim-fault": "html-502", "x-sim-tokens": "3"})
        assert (status, body["usage"]["completion_tokens"]) == (200, 16)


async def test_auto_tool_choice_calls_until_it_has_a_result(http: aiohttp.ClientSession) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    async with Simulator(SimulatorOptions(auto_tool_choice=True)) as sim:
        _, body = await post(http, chat_url(sim), {**HELLO, "tools": [tool]})
        choice = body["choices"][0]
        assert (choice["finish_reason"], choice["message"]["content"]) == ("tool_calls", None)
        turn = [*HELLO["messages"], choice["message"], {"role": "tool", "content": "4", "tool_call_id": "x"}]
        _, body = await post(http, chat_url(sim), {"messages": turn, "tools": [tool]})
        assert body["choices"][0]["message"]["content"]


async def test_tokenize_and_detokenize_are_inverse(sim: Simulator, http: aiohttp.ClientSession) -> None:
    _, body = await post(http, f"{sim.url}/tokenize", {"prompt": "näive text", "return_token_strs": True})
    assert (body["count"], body["max_model_len"], len(body["token_strs"])) == (3, 256, 3)
    _, back = await post(http, f"{sim.url}/detokenize", {"tokens": body["tokens"]})
    assert back == {"prompt": "näive text"}
    _, chat = await post(http, f"{sim.url}/tokenize", {"messages": HELLO["messages"]})
    _, answer = await post(http, chat_url(sim), HELLO)
    assert chat["count"] == answer["usage"]["prompt_tokens"]


async def test_expectation_is_answered_before_the_body(sim: Simulator) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", sim.port)
    writer.write(b"POST /tokenize HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                 b"Content-Length: 14\r\nExpect: 100-continue\r\n\r\n")  # fmt: skip
    async with asyncio.timeout(60):
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b'{"prompt":"a"}')
        assert (await reader.readuntil(b"\r\n")) == b"HTTP/1.1 200 OK\r\n"
    writer.close()


async def test_idle_connection_is_closed_after_the_keep_alive_time() -> None:
    async with Simulator(SimulatorOptions(keep_alive_seconds=0.05)) as sim:
        reader, writer = await asyncio.open_connection("127.0.0.1", sim.port)
        writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(4.5):
            await reader.read()
        writer.close()
