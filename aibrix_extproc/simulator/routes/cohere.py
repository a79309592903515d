"""POST /v2/embed: embeddings in Cohere's form."""

import base64
from array import array
from typing import Any

from aibrix_extproc.simulator.errors import bad_request
from aibrix_extproc.simulator.reading import read_body
from aibrix_extproc.simulator.requests import CohereEmbedBody
from aibrix_extproc.simulator.routes.pooling import compute, text_inputs
from aibrix_extproc.simulator.vectors import embedding
from aibrix_extproc.simulator.wire import Answer, Call, json_reply

_SIGN = 128


async def embed(call: Call) -> Answer:
    """One vector of each wanted kind for each text."""
    body = read_body(call, CohereEmbedBody)
    model = call.engine.models.resolve(body.model, pooling=True)
    given = [one for one in (body.texts, body.images, body.inputs) if one is not None]
    if len(given) != 1 or not given[0]:
        raise bad_request("Exactly one of texts, images, or inputs must be provided, and it must be non-empty")
    if body.texts is None:
        raise bad_request(f"{model.name} is not a multimodal model")
    inputs = text_inputs(call, body.texts)
    await compute(call, model, inputs)
    vectors = [embedding(data, call.engine.options.embedding_dimensions) for data, _ in inputs]
    tokens = sum(count for _, count in inputs)
    kinds = body.embedding_types or ["float"]
    return json_reply(
        {
            "id": f"embd-{call.request_id()}",
            "embeddings": {kind: [_typed(vector, kind) for vector in vectors] for kind in kinds},
            "texts": body.texts,
            "meta": {"api_version": {"version": "2"}, "billed_units": {"input_tokens": tokens, "image_tokens": 0}},
            "response_type": "embeddings_by_type",
        }
    )


def _typed(vector: "array[float]", kind: str) -> Any:
    if kind == "float":
        return vector.tolist()
    if kind == "base64":
        return base64.b64encode(vector).decode()
    return [byte - _SIGN if kind == "binary" else byte for byte in _bits(vector)]


def _bits(vector: "array[float]") -> list[int]:
    """One bit for each number: whether it is positive; eight of them are a byte."""
    return [
        sum((number > 0) << (7 - at) for at, number in enumerate(vector[start : start + 8]))
        for start in range(0, len(vector), 8)
    ]
