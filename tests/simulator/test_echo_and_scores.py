"""Log probabilities of a prompt, as evaluation harnesses ask for them; scores of continuations; Cohere's embeddings."""

import base64
import json
import struct
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from aibrix_extproc.simulator.options import SimulatorOptions, Task
from aibrix_extproc.simulator.server import Simulator
from aibrix_extproc.simulator.tokenizer import encode

TEXT = "The capital of France is Paris"
TOKENS = encode(TEXT.encode())


@pytest.fixture
async def engine() -> AsyncIterator[Simulator]:
    async with Simulator(SimulatorOptions(models=("m",))) as running:
        yield running


async def asked(http: aiohttp.ClientSession, engine: Simulator, path: str, status: int = 200, **body: Any) -> Any:
    async with http.post(f"{engine.url}{path}", json={"model": "m", **body}) as answer:
        assert answer.status == status, await answer.text()
        return await answer.json()


@pytest.mark.parametrize("prompt", [TEXT, TOKENS], ids=["text", "tokens"])
async def test_echo_with_logprobs_covers_prompt_and_answer(
    engine: Simulator, http: aiohttp.ClientSession, prompt: object
) -> None:
    """The request of lm-eval's loglikelihood: the prompt and one token more."""
    asking: dict[str, Any] = {"prompt": prompt, "max_tokens": 1, "logprobs": 1, "echo": True, "temperature": 0}
    (choice,) = (await asked(http, engine, "/v1/completions", **asking))["choices"]
    found = choice["logprobs"]
    assert {len(values) for values in found.values()} == {len(TOKENS) + 1}
    assert "".join(found["tokens"]) == choice["text"]
    assert choice["text"].startswith(TEXT)
    assert found["token_logprobs"][0] is found["top_logprobs"][0] is None
    assert found["text_offset"] == [sum(map(len, found["tokens"][:at])) for at in range(len(TOKENS) + 1)]
    for token, number, top in zip(found["tokens"], found["token_logprobs"], found["top_logprobs"], strict=True):
        assert top is None or top[token] == number <= max(top.values()) <= 0


async def test_prompt_alone_is_echoed_when_no_tokens_are_wanted(engine: Simulator, http: aiohttp.ClientSession) -> None:
    asking: dict[str, Any] = {"prompt": TEXT, "max_tokens": 0, "echo": True, "logprobs": 2}
    answer = await asked(http, engine, "/v1/completions", **asking)
    (choice,) = answer["choices"]
    assert (choice["text"], choice["finish_reason"]) == (TEXT, "length")
    assert len(choice["logprobs"]["tokens"]) == len(TOKENS)
    assert answer["usage"]["completion_tokens"] == 1  # vLLM generates one, and counts it
    refused = await asked(http, engine, "/v1/completions", 400, prompt=TEXT, max_tokens=0)
    assert "max_tokens must be at least 1" in refused["error"]["message"]


async def test_several_prompts_are_echoed_each_with_its_own_tokens(
    engine: Simulator, http: aiohttp.ClientSession
) -> None:
    prompts = [TOKENS, TOKENS[:3]]
    asking: dict[str, Any] = {"prompt": prompts, "max_tokens": 1, "logprobs": 1, "echo": True}
    choices = (await asked(http, engine, "/v1/completions", **asking))["choices"]
    assert [len(one["logprobs"]["tokens"]) - 1 for one in choices] == [len(one) for one in prompts]


@pytest.mark.parametrize("max_tokens", [0, 3])
async def test_echo_is_streamed_with_the_same_logprobs(
    engine: Simulator, http: aiohttp.ClientSession, max_tokens: int
) -> None:
    asking: dict[str, Any] = {
        "prompt": TEXT,
        "max_tokens": max_tokens,
        "logprobs": 1,
        "echo": True,
        "seed": 1,
        "temperature": 0,
    }
    (whole,) = (await asked(http, engine, "/v1/completions", **asking))["choices"]
    async with http.post(f"{engine.url}/v1/completions", json={"model": "m", "stream": True, **asking}) as answer:
        lines = (await answer.text()).splitlines()
    choices = [json.loads(one[6:])["choices"][0] for one in lines if one.startswith("data: {")]
    assert "".join(one["text"] for one in choices) == whole["text"]
    parts = [one["logprobs"] for one in choices if one["logprobs"]]
    assert {name: [value for one in parts for value in one[name]] for name in whole["logprobs"]} == whole["logprobs"]
    assert choices[-1]["finish_reason"] == "length"


async def test_generative_scores_are_probabilities_of_the_first_label(
    engine: Simulator, http: aiohttp.ClientSession
) -> None:
    asking: dict[str, Any] = {"query": "2 + 2 =", "items": [" 4", " 5"]}
    answer = await asked(http, engine, "/generative_scoring", label_token_ids=[1, 2], **asking)
    assert (answer["object"], answer["model"]) == ("list", "m")
    assert [(one["index"], one["object"]) for one in answer["data"]] == [(0, "score"), (1, "score")]
    assert answer["usage"]["completion_tokens"] == 2
    assert answer["usage"]["prompt_tokens"] == 2 * (len(encode(b"2 + 2 =")) + len(encode(b" 4")))
    other = await asked(http, engine, "/generative_scoring", label_token_ids=[2, 1], **asking)
    for one, two in zip(answer["data"], other["data"], strict=True):
        assert one["score"] + two["score"] == pytest.approx(1)
    plain = await asked(http, engine, "/generative_scoring", label_token_ids=[1, 2], apply_softmax=False, **asking)
    assert all(one["score"] < two["score"] for one, two in zip(plain["data"], answer["data"], strict=True))


@pytest.mark.parametrize(
    ("change", "words"),
    [({"label_token_ids": []}, "at least one token ID"), ({"label_token_ids": [-1]}, "out of vocabulary range"),
     ({"items": []}, "at least one item")],
    ids=["no labels", "unknown label", "no items"],
)  # fmt: skip
async def test_scoring_that_cannot_be_done_is_refused(
    engine: Simulator, http: aiohttp.ClientSession, change: dict[str, Any], words: str
) -> None:
    asking: dict[str, Any] = {"query": "q", "items": ["a"], "label_token_ids": [1]} | change
    assert words in (await asked(http, engine, "/generative_scoring", 400, **asking))["error"]["message"]


async def test_cohere_embeddings_come_in_the_wanted_kinds(http: aiohttp.ClientSession) -> None:
    async with Simulator(SimulatorOptions(models=("m",), task=Task.EMBED)) as engine:
        kinds = ["float", "base64", "binary", "ubinary"]
        answer = await asked(http, engine, "/v2/embed", texts=["a", "b c"], embedding_types=kinds)
        same = await asked(http, engine, "/v1/embeddings", input=["a", "b c"])
        wrong: tuple[dict[str, Any], ...] = ({}, {"texts": []}, {"texts": ["a"], "images": ["b"]})
        for body in wrong:
            refused = await asked(http, engine, "/v2/embed", 400, **body)
            assert "Exactly one of texts, images, or inputs" in refused["error"]["message"]
    found = answer["embeddings"]
    assert found["float"] == [one["embedding"] for one in same["data"]]
    for at, vector in enumerate(found["float"]):
        assert list(struct.unpack(f"<{len(vector)}f", base64.b64decode(found["base64"][at]))) == pytest.approx(vector)
        assert [one + 128 for one in found["binary"][at]] == found["ubinary"][at]
        bits = "".join(f"{one:08b}" for one in found["ubinary"][at])
        assert [bit == "1" for bit in bits[: len(vector)]] == [number > 0 for number in vector]
    assert answer["meta"]["billed_units"] == {"input_tokens": 2, "image_tokens": 0}
    assert answer["response_type"] == "embeddings_by_type"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("DELETE", "", 405), ("GET", "/input_items", 404)],
    ids=["delete", "input items"],
)
async def test_responses_cannot_be_deleted_nor_their_items_listed(
    engine: Simulator, http: aiohttp.ClientSession, method: str, path: str, status: int
) -> None:
    made = await asked(http, engine, "/v1/responses", input="x")
    async with http.request(method, f"{engine.url}/v1/responses/{made['id']}{path}") as answer:
        assert (answer.status, list(await answer.json())) == (status, ["detail"])
