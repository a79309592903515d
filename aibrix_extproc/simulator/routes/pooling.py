"""Routes of models that pool: embeddings, scores, ranks, classes."""

import base64
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from aibrix_extproc.simulator.engine import Job
from aibrix_extproc.simulator.errors import JSON, Reply, bad_request, bad_value, dump
from aibrix_extproc.simulator.models import Model
from aibrix_extproc.simulator.prompts import prompt_tokens_of, render_chat, render_prompt, split_prompts, too_long
from aibrix_extproc.simulator.reading import missing_field, read_body
from aibrix_extproc.simulator.requests import EmbeddingBody, PoolingBody, RerankBody, ScoreBody
from aibrix_extproc.simulator.tokenizer import count_tokens
from aibrix_extproc.simulator.vectors import class_probabilities, embedding, relevance
from aibrix_extproc.simulator.wire import Answer, Call, json_reply

Inputs = Sequence[tuple[bytes, int]]
"""Texts with their numbers of tokens."""


async def create_embeddings(call: Call) -> Answer:
    """One vector for each input."""
    body = read_body(call, EmbeddingBody)
    model = call.engine.models.resolve(body.model, pooling=True)
    if body.dimensions is not None:
        raise bad_value(
            "dimensions",
            body.dimensions,
            f'Model "{model.name}" does not support matryoshka representation, changing output dimensions will '
            "lead to poor results.",
        )
    if body.messages is not None:
        data = render_chat(body.messages, None, call.engine.options.multimodal, model.name)
        inputs: Inputs = [(data, count_tokens(data))]
    elif body.input is None:
        raise missing_field("input")
    else:
        inputs = _inputs(call, body.input)
    await compute(call, model, inputs)
    vectors = [embedding(data, call.engine.options.embedding_dimensions) for data, _ in inputs]
    usage = _usage(inputs) | {"completion_tokens": 0, "prompt_tokens_details": None}
    head = _head(call, "embd", model)
    if body.encoding_format in ("bytes", "bytes_only"):
        raw = b"".join(vector.tobytes() for vector in vectors)
        headers = {} if body.encoding_format == "bytes_only" else {"metadata": dump(head | {"usage": usage}).decode()}
        return Reply(200, raw, "application/octet-stream", headers)
    as_text = body.encoding_format == "base64"
    entries = [
        {
            "index": index,
            "object": "embedding",
            "embedding": base64.b64encode(vector).decode() if as_text else vector.tolist(),
        }
        for index, vector in enumerate(vectors)
    ]
    # A hundred megabytes of floats take json.dumps seconds.
    return Reply(200, msgspec.json.encode(head | {"data": entries, "usage": usage}), JSON)


async def create_pooling(call: Call) -> Answer:
    """The pooled vector of each input."""
    body = read_body(call, PoolingBody)
    model = call.engine.models.resolve(body.model, pooling=True)
    inputs = _inputs(call, body.input)
    await compute(call, model, inputs)
    dimensions = call.engine.options.embedding_dimensions
    entries = [
        {"index": index, "object": "pooling", "data": embedding(data, dimensions).tolist()}
        for index, (data, _) in enumerate(inputs)
    ]
    return json_reply(_head(call, "pool", model) | {"data": entries, "usage": _usage(inputs)})


async def classify(call: Call) -> Answer:
    """A label for each input."""
    body = read_body(call, PoolingBody)
    model = call.engine.models.resolve(body.model, pooling=True)
    inputs = _inputs(call, body.input)
    await compute(call, model, inputs)
    entries = []
    for index, (data, _) in enumerate(inputs):
        probabilities = class_probabilities(data)
        best = probabilities.index(max(probabilities))
        entries.append(
            {"index": index, "label": f"LABEL_{best}", "probs": probabilities, "num_classes": len(probabilities)}
        )
    return json_reply(_head(call, "classify", model) | {"data": entries, "usage": _usage(inputs)})


async def score(call: Call) -> Answer:
    """How well pairs of texts go together."""
    body = read_body(call, ScoreBody)
    model = call.engine.models.resolve(body.model, pooling=True)
    left, right = body.queries or body.text_1, body.documents or body.text_2
    if not left or not right:
        raise missing_field("queries" if not left else "documents")
    queries = [left] if isinstance(left, str) else left
    documents = [right] if isinstance(right, str) else right
    if len(queries) == 1:
        queries = queries * len(documents)
    if len(queries) != len(documents):
        raise bad_request("Input lengths must be either 1:1, 1:N or N:N")
    inputs = _pairs(call, list(zip(queries, documents, strict=True)))
    await compute(call, model, inputs)
    entries = [
        {"index": index, "object": "score", "score": relevance(query, document)}
        for index, (query, document) in enumerate(zip(queries, documents, strict=True))
    ]
    return json_reply(_head(call, "score", model) | {"data": entries, "usage": _usage(inputs)})


async def rerank(call: Call) -> Answer:
    """Documents, the best for the query first."""
    body = read_body(call, RerankBody)
    model = call.engine.models.resolve(body.model, pooling=True)
    texts = [entry if isinstance(entry, str) else str(entry.get("text", entry)) for entry in body.documents]
    if not texts:
        raise bad_request("documents must not be empty", "documents")
    inputs = _pairs(call, [(body.query, text) for text in texts])
    await compute(call, model, inputs)
    results = [
        {
            "index": index,
            "document": {"text": text, "multi_modal": None},
            "relevance_score": relevance(body.query, text),
        }
        for index, text in enumerate(texts)
    ]
    results.sort(key=lambda result: -float(str(result["relevance_score"])))
    return json_reply(
        {
            "id": f"rerank-{call.request_id()}",
            "model": model.name,
            "usage": _usage(inputs),
            "results": results[: body.top_n] if body.top_n > 0 else results,
        }
    )


def _inputs(call: Call, given: str | list[str] | list[int] | list[list[int]]) -> Inputs:
    prompts = split_prompts(given)
    if not prompts or not all(prompts):
        raise bad_request("Either input or messages must be provided and non-empty.", "input")
    rendered = [(prompt, render_prompt(prompt)) for prompt in prompts]
    return _checked(call, [(data, prompt_tokens_of(prompt, data)) for prompt, data in rendered])


def text_inputs(call: Call, texts: Sequence[str]) -> Inputs:
    """Texts with their lengths; one that does not fit is refused."""
    data = [text.encode("utf-8", "replace") for text in texts]
    return _checked(call, [(one, count_tokens(one)) for one in data])


def _pairs(call: Call, pairs: Sequence[tuple[str, str]]) -> Inputs:
    return text_inputs(call, [f"{query}\n{document}" for query, document in pairs])


def _checked(call: Call, inputs: Inputs) -> Inputs:
    limit = call.engine.options.max_model_len
    for data, tokens in inputs:
        if tokens > limit:
            raise too_long(data, tokens, limit)
    return inputs


async def compute(call: Call, model: Model, inputs: Inputs) -> None:
    """Let the engine take the time that the inputs need."""
    job = Job(
        prompt=b"".join(data for data, _ in inputs),
        prompt_tokens=sum(tokens for _, tokens in inputs),
        lengths=(0,) * len(inputs),
        finish_reasons=("stop",) * len(inputs),
        adapter=model.adapter,
    )
    await call.engine.run(call.engine.enter(job))


def _usage(inputs: Inputs) -> dict[str, Any]:
    tokens = sum(count for _, count in inputs)
    return {"prompt_tokens": tokens, "total_tokens": tokens}


def _head(call: Call, prefix: str, model: Model) -> dict[str, Any]:
    return {
        "id": f"{prefix}-{call.request_id()}",
        "object": "list",
        "created": int(time.time()),
        "model": model.name,
    }
