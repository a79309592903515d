"""Ranks, classes, embeddings as bytes, Anthropic's messages and speech, over HTTP."""

import aiohttp
import pytest

from aibrix_extproc.simulator.options import SimulatorOptions, Task
from aibrix_extproc.simulator.server import Simulator
from tests.simulator.conversation import HELLO, events, post


async def test_ranking_engines_rank(http: aiohttp.ClientSession) -> None:
    documents = ["paris is in france", "the cat sat", "france"]
    async with Simulator(SimulatorOptions(task=Task.RERANK)) as sim:
        for path in ("/rerank", "/v1/rerank", "/v2/rerank"):
            body = {"query": "where is paris", "documents": documents, "top_n": 2}
            status, ranked = await post(http, sim.url + path, body)
            assert status == 200
            assert ranked["results"][0]["index"] == 0
            assert len(ranked["results"]) == 2
            assert ranked["usage"]["total_tokens"] > 0
        status, scored = await post(http, f"{sim.url}/v1/score", {"text_1": "france", "text_2": documents})
        assert [entry["score"] > 0.5 for entry in scored["data"]] == [True, False, True]
        assert (await post(http, f"{sim.url}/score", {"queries": ["a", "b"], "documents": ["c"] * 3}))[0] == 400
        assert (await post(http, f"{sim.url}/score", {"queries": "a"}))[0] == 400


async def test_classifying_engine_classifies(http: aiohttp.ClientSession) -> None:
    async with Simulator(SimulatorOptions(task=Task.CLASSIFY)) as sim:
        _, body = await post(http, f"{sim.url}/classify", {"input": ["a", "b"]})
        assert [sum(entry["probs"]) for entry in body["data"]] == pytest.approx([1, 1])
        _, body = await post(http, f"{sim.url}/pooling", {"input": "a"})
        assert len(body["data"][0]["data"]) == 64


async def test_embedding_bytes_come_as_octets(http: aiohttp.ClientSession) -> None:
    async with Simulator(SimulatorOptions(task=Task.EMBED)) as sim:
        body = {"input": [[1, 2], [3]], "encoding_format": "bytes"}
        async with http.post(f"{sim.url}/v1/embeddings", json=body) as response:
            assert response.content_type == "application/octet-stream"
            assert '"prompt_tokens":3' in response.headers["metadata"]
            assert len(await response.read()) == 2 * 64 * 4


async def test_messages_speak_anthropic(sim: Simulator, http: aiohttp.ClientSession) -> None:
    url = f"{sim.url}/v1/messages"
    body = {"model": "sim-model", "max_tokens": 4, "system": "brief", "messages": HELLO["messages"]}
    _, whole = await post(http, url, body)
    assert (whole["type"], whole["stop_reason"], whole["usage"]["output_tokens"]) == ("message", "max_tokens", 4)
    async with http.post(url, json={**body, "stream": True}) as response:
        found = events(await response.read())
    assert [event["type"] for event in found] == [
        "message_start",
        "content_block_start",
        *["content_block_delta"] * 4,
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    text = "".join(event["delta"]["text"] for event in found if event["type"] == "content_block_delta")
    assert text == whole["content"][0]["text"]
    _, count = await post(http, f"{url}/count_tokens", body)
    assert count["input_tokens"] == whole["usage"]["input_tokens"]
    tool = {"name": "f", "input_schema": {"type": "object", "properties": {"a": {"type": "integer"}}}}
    wish = {**body, "max_tokens": 50, "tools": [tool], "tool_choice": {"type": "any"}}
    _, called = await post(http, url, wish)
    assert (called["stop_reason"], called["content"][0]["input"]) == ("tool_use", {"a": 1})


async def test_transcription_streams_chunks_and_takes_the_file_first(http: aiohttp.ClientSession) -> None:
    async with Simulator(SimulatorOptions(task=Task.TRANSCRIPTION)) as sim:
        form = aiohttp.FormData()
        form.add_field("file", b"\0" * 32_000, filename="a.mp3")
        form.add_field("model", "sim-model")
        form.add_field("stream", "true")
        form.add_field("stream_include_usage", "true")
        async with http.post(f"{sim.url}/v1/audio/transcriptions", data=form) as response:
            found = events(await response.read())
        assert {event["object"] for event in found[:-1]} == {"transcription.chunk"}
        assert found[-2]["usage"]["completion_tokens"] == 5
        for field in ("file", "model"):
            form = aiohttp.FormData({"x": "y"}, default_to_multipart=True)
            if field == "model":
                form.add_field("file", b"\0", filename="a.mp3")
            async with http.post(f"{sim.url}/v1/audio/translations", data=form) as response:
                assert response.status == (400 if field == "file" else 200)
