"""Batches as the SDK makes and follows them, through a Gateway."""

import json

from openai import AsyncOpenAI
from openai.types import Batch

from tests.waiting import until


def lines(number: int, model: str = "sim-chat") -> bytes:
    """The input of a batch."""
    return "\n".join(
        json.dumps({
            "custom_id": f"line-{index}", "method": "POST", "url": "/v1/chat/completions",
            "body": {"model": model, "messages": [{"role": "user", "content": f"question {index}"}], "max_tokens": 3},
        })
        for index in range(number)
    ).encode()  # fmt: skip


async def started(client: AsyncOpenAI, number: int) -> Batch:
    """A batch of so many lines."""
    file = await client.files.create(file=("日本.jsonl", lines(number)), purpose="batch")
    return await client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
    )  # fmt: skip


async def until_whole(client: AsyncOpenAI, batch: Batch, number: int) -> Batch:
    """It has completed, and every line is answered once, in the order of the input."""
    found = batch

    async def ended() -> bool:
        nonlocal found
        found = await client.batches.retrieve(batch.id)
        return found.status in ("completed", "failed", "expired", "cancelled")

    await until(ended, lambda: found, seconds=120)
    assert found.status == "completed", found
    assert found.output_file_id is not None
    results = [json.loads(one) for one in (await client.files.content(found.output_file_id)).text.splitlines()]
    assert [one["custom_id"] for one in results] == [f"line-{index}" for index in range(number)]
    assert {one["response"]["status_code"] for one in results} == {200}
    assert all(one["response"]["body"]["choices"][0]["message"]["content"] for one in results)
    return found
