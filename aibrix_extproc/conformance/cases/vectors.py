"""Acceptance 7.6: embeddings, ranking and tokens."""

import math
from typing import Final

from aibrix_extproc.conformance.bench import Bench
from aibrix_extproc.conformance.case import Case, Inapplicable, Need
from aibrix_extproc.conformance.expect import check, expect_error, expect_json, expect_status

MANY_INPUTS: Final = 2048
SAME: Final = 1e-3  # real engines vary in the last bits with the batch


def _embed(bench: Bench, given: object, **fields: str) -> list[list[float]]:
    made = bench.client().embeddings.create(model=bench.model(Need.EMBEDDING), input=given, **fields)
    indexes = [one.index for one in made.data]
    check(indexes == list(range(len(indexes))), "data in the order of index", indexes)
    return [one.embedding for one in made.data]


def _close(one: list[float], other: list[float]) -> bool:
    return len(one) == len(other) and all(
        math.isclose(a, b, rel_tol=SAME, abs_tol=SAME) for a, b in zip(one, other, strict=True)
    )


def _one(bench: Bench) -> None:
    made = bench.client().embeddings.create(model=bench.model(Need.EMBEDDING), input="hello")  # asks for base64
    vector = made.data[0].embedding
    check(vector and all(isinstance(value, float) for value in vector), "a list of floats", str(vector)[:100])
    check(made.usage.prompt_tokens == made.usage.total_tokens > 0, "usage", made.usage)


def _several(bench: Bench) -> None:
    for given, count in ((["a", "b c", "d"], 3), ([1, 2, 3], 1), ([[1, 2], [3], [4]], 3)):
        vectors = _embed(bench, given)
        check(len(vectors) == count, f"{count} embeddings of {given}", len(vectors))
    texts = _embed(bench, ["a", "b c", "d"])
    check(_close(texts[1], _embed(bench, "b c")[0]), "the second input's embedding second", "another")


def _floats(bench: Bench) -> None:
    floats = _embed(bench, "hello", encoding_format="float")[0]
    check(_close(floats, _embed(bench, "hello")[0]), "the same numbers as with base64", "others")


def _large(bench: Bench) -> None:
    body = {"model": bench.model(Need.EMBEDDING), "input": ["x"] * MANY_INPUTS}
    made = expect_json(bench.post("/v1/embeddings", body))
    check(len(made.get("data", [])) == MANY_INPUTS, f"{MANY_INPUTS} embeddings", len(made.get("data", [])))


def _empty(bench: Bench) -> None:
    empty: tuple[object, ...] = ([], "")
    for given in empty:
        expect_error(bench.post("/v1/embeddings", {"model": bench.model(Need.EMBEDDING), "input": given}), 400)


def _wrong_task(bench: Bench) -> None:
    expect_error(bench.post("/v1/embeddings", {"model": bench.model(), "input": "x"}), 400, 404)


def _rerank(bench: Bench) -> None:
    documents = ["the sun", "a dog", "sunny day"]
    body = {"model": bench.model(Need.RERANK), "query": "sun", "documents": documents}
    made = expect_json(bench.post("/v1/rerank", body))
    scores = [one.get("relevance_score") for one in made.get("results", [])]
    check(len(scores) == len(documents), "a result for each document", made)
    check(scores == sorted(scores, reverse=True), "results by relevance", scores)
    check(made.get("usage", {}).get("total_tokens"), "usage", made)


def _tokenize(bench: Bench) -> None:
    body = {"model": bench.model(), "prompt": "hello world"}
    answer = bench.post("/tokenize", body)
    if answer.status in (404, 405, 501):
        raise Inapplicable("the deployment has no /tokenize, which is vLLM's own")
    made = expect_json(answer)
    check(made.get("count") == len(made.get("tokens") or []) > 0, "as many tokens as count says", made)
    if bench.deployment.wants_key:
        expect_error(bench.post("/tokenize", body, key=False), 401)
    expect_status(bench.post("/detokenize", {"model": bench.model(), "tokens": made["tokens"]}), 200)


EMBEDDING_CASES: Final = (
    # id, title, expected, check, needs
    Case("EMB-01", "text through the SDK (base64)", "list of floats, usage", _one, (Need.EMBEDDING,)),
    Case("EMB-02", "texts, tokens, lists of tokens", "in the order of the input", _several, (Need.EMBEDDING,)),
    Case("EMB-03", "encoding_format float", "the same floats", _floats, (Need.EMBEDDING,)),
    Case("EMB-04", "2048 inputs", "200, whole answer", _large, (Need.EMBEDDING,), is_large=True, time_factor=4),
    Case("EMB-05", "empty input", "400", _empty, (Need.EMBEDDING,)),
    Case("EMB-06", "embeddings of a chat model", "400 or 404 in shape", _wrong_task, (Need.CHAT,)),
)
RERANK_CASES: Final = (Case("RER-01", "rerank", "results by relevance, usage", _rerank, (Need.RERANK,)),)
TOKEN_CASES: Final = (Case("TOK-01", "tokenize with and without a key", "200; 401", _tokenize, (Need.CHAT,)),)
