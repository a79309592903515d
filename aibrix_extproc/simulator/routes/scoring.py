"""POST /generative_scoring: how likely one token is to follow, for each item."""

import math
import time
import zlib
from typing import Final

from aibrix_extproc.simulator.engine import Job
from aibrix_extproc.simulator.errors import bad_request
from aibrix_extproc.simulator.prompts import prompt_tokens_of, render_prompt, too_long
from aibrix_extproc.simulator.reading import read_body
from aibrix_extproc.simulator.requests import GenerativeScoringBody
from aibrix_extproc.simulator.wire import Answer, Call, json_reply

VOCABULARY: Final = 151_936
_SHARE: Final = 0.5  # of the probability that all labels together have of the whole vocabulary


async def score(call: Call) -> Answer:
    """The probability of the first label after each item."""
    body = read_body(call, GenerativeScoringBody)
    model = call.engine.models.resolve(body.model)
    _check(body)
    query, count = render_prompt(body.query), prompt_tokens_of(body.query, render_prompt(body.query))
    prompts = []
    for item in body.items:
        data = render_prompt(item)
        tokens = count + prompt_tokens_of(item, data)
        prompts.append((data + query if body.item_first else query + data, tokens))
        if tokens >= call.engine.options.max_model_len:
            raise too_long(prompts[-1][0], tokens, call.engine.options.max_model_len)
    total = sum(tokens for _, tokens in prompts)
    job = Job(
        prompt=b"".join(data for data, _ in prompts),
        prompt_tokens=total,
        lengths=(1,) * len(prompts),
        finish_reasons=("length",) * len(prompts),
        adapter=model.adapter,
        cache_salt=body.cache_salt or "",
    )
    await call.engine.run(call.engine.enter(job))
    entries = [
        {"index": index, "object": "score", "score": _probability(data, body)}
        for index, (data, _) in enumerate(prompts)
    ]
    return json_reply(
        {
            "id": f"generative-scoring-{call.request_id()}",
            "object": "list",
            "created": int(time.time()),
            "model": model.name,
            "data": entries,
            "usage": {
                "prompt_tokens": total,
                "total_tokens": total + len(prompts),
                "completion_tokens": len(prompts),
                "prompt_tokens_details": None,
            },
        }
    )


def _check(body: GenerativeScoringBody) -> None:
    for token in body.label_token_ids:
        if not 0 <= token < VOCABULARY:
            raise bad_request(
                f"label_token_id {token} is out of vocabulary range [0, {VOCABULARY}). Please provide valid token IDs."
            )
    if not body.label_token_ids:
        raise bad_request("label_token_ids must contain at least one token ID.")
    if not body.items:
        raise bad_request("items must contain at least one item.")


def _probability(prompt: bytes, body: GenerativeScoringBody) -> float:
    weights = [math.exp(-(zlib.crc32(prompt, label) % 4000) / 1000) for label in body.label_token_ids]
    return weights[0] / sum(weights) * (1.0 if body.apply_softmax else _SHARE)
