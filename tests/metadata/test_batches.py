"""The Batch API through OpenAI's own SDK, lines against an engine that fails to order."""

import asyncio
import json
from collections.abc import Callable, Iterable
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI
from openai.types import Batch

from aibrix_extproc.adapters.ledger.control import ControlLedger
from aibrix_extproc.adapters.ledger.database import Database
from aibrix_extproc.core.access.limits.enqueued import ENQUEUED
from aibrix_extproc.core.access.limits.records import LimitRecord
from aibrix_extproc.core.batches.fairness import SHARDS_OF_A_KIND
from aibrix_extproc.core.control.rows import Section
from tests.metadata.conftest import ORPHAN_SECONDS, Service
from tests.waiting import until

URL = "/v1/chat/completions"


def line(custom_id: str, text: str | None = None, **body: Any) -> str:
    content = {"model": "m", "messages": [{"role": "user", "content": text or custom_id}], **body}
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": URL, "body": content})


async def create(client: AsyncOpenAI, lines: Iterable[str] | bytes, **more: Any) -> Batch:
    content = lines if isinstance(lines, bytes) else "\n".join(lines).encode()
    file = await client.files.create(file=("in.jsonl", content), purpose="batch")
    given: Any = {"endpoint": URL, "completion_window": "24h", **more}
    return await client.batches.create(input_file_id=file.id, **given)


async def batch_until(client: AsyncOpenAI, batch: Batch, condition: Callable[[Batch], bool]) -> Batch:
    async def found() -> Batch | None:
        one = await client.batches.retrieve(batch.id)
        return one if condition(one) else None

    return await until(found, "the batch is as wanted")


async def ended(client: AsyncOpenAI, batch: Batch) -> Batch:
    return await batch_until(client, batch, lambda one: one.status in ("completed", "failed", "expired", "cancelled"))


async def rows(client: AsyncOpenAI, file_id: str | None) -> list[dict[str, Any]]:
    if file_id is None:
        return []
    return [json.loads(row) for row in (await client.files.content(file_id)).content.splitlines()]


async def test_bat_01_02_27_three_lines_run_and_are_counted(service: Service) -> None:
    client = service.openai()
    done = await ended(client, await create(client, [line("a"), line("b"), line("c")]))
    assert done.status == "completed"
    assert done.request_counts is not None
    assert done.request_counts.model_dump() == {"completed": 3, "failed": 0, "total": 3}
    stamps = [done.created_at, done.in_progress_at, done.finalizing_at, done.completed_at]
    assert stamps == sorted(stamps)
    assert done.error_file_id is None
    found = await rows(client, done.output_file_id)
    assert [one["custom_id"] for one in found] == ["a", "b", "c"]
    assert all(one["id"].startswith("batch_req_") and one["error"] is None for one in found)
    assert [one["response"]["request_id"] for one in found] == ["req-a", "req-b", "req-c"]
    assert [one["response"]["status_code"] for one in found] == [200] * 3
    assert done.usage is not None
    assert (done.usage.input_tokens, done.usage.output_tokens, done.usage.total_tokens) == (9, 6, 15)
    assert done.usage.input_tokens_details.cached_tokens == 3
    file = await client.files.retrieve(done.output_file_id or "")
    assert (file.purpose, file.filename) == ("batch_output", f"{done.id}_output.jsonl")
    assert done.model == "m"


async def test_bat_03_batch_of_which_all_lines_fail_has_no_output_file(service: Service) -> None:
    service.engine.fault = lambda *_: (400, {})
    client = service.openai()
    done = await ended(client, await create(client, [line("a"), line("b")]))
    assert (done.status, done.output_file_id) == ("completed", None)
    found = await rows(client, done.error_file_id)
    assert [(one["custom_id"], one["response"]["status_code"]) for one in found] == [("a", 400), ("b", 400)]
    assert done.request_counts is not None
    assert done.request_counts.failed == 2
    assert service.engine.asked == {"a": 1, "b": 1}


async def test_bat_04_each_custom_id_comes_exactly_once_in_the_order_of_the_input(service: Service) -> None:
    service.engine.fault = lambda text, _: (404, {}) if int(text) % 3 == 0 else None
    client = service.openai()
    done = await ended(client, await create(client, (line(str(number)) for number in range(1000))))
    output = [int(one["custom_id"]) for one in await rows(client, done.output_file_id)]
    errors = [int(one["custom_id"]) for one in await rows(client, done.error_file_id)]
    assert output == [number for number in range(1000) if number % 3]
    assert errors == [number for number in range(1000) if number % 3 == 0]


async def test_bat_05_unknown_file_fails_the_batch_and_not_the_request(service: Service) -> None:
    client = service.openai()
    made = await client.batches.create(input_file_id="file-nothing", endpoint=URL, completion_window="24h")
    assert made.status == "validating"
    done = await ended(client, made)
    assert done.status == "failed"
    assert done.errors is not None
    assert done.errors.data is not None
    assert [(one.code, one.param) for one in done.errors.data] == [("invalid_request", "file_id")]


@pytest.mark.parametrize(
    ("given", "param", "code"),
    [
        ({"endpoint": "/v1/x"}, "endpoint", "invalid_value"),
        ({"completion_window": "1h"}, "completion_window", "invalid_value"),
        ({"completion_window": ""}, "completion_window", "invalid_value"),
        ({"metadata": {"k": ["v"]}}, "metadata.k", "invalid_type"),
        ({"metadata": [1]}, "metadata", "invalid_type"),
        ({"metadata": {str(n): "v" for n in range(17)}}, "metadata", "invalid_value"),
        ({"metadata": {"k" * 65: "v"}}, None, "invalid_value"),
        ({"metadata": {"k": "v" * 513}}, "metadata.k", "invalid_value"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 1}}, "output_expires_after.seconds", None),
    ],
)
async def test_bat_06_07_08_bad_batch_is_a_400(
    service: Service, given: dict[str, Any], param: str | None, code: str | None
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await create(service.openai(), [line("a")], **given)
    assert param is None or caught.value.param == param
    assert code is None or caught.value.code == code


def without(name: str) -> str:
    content = json.loads(line("a"))
    del content[name]
    return json.dumps(content)


BAD_LINES: dict[str, tuple[bytes, list[tuple[str, int | None, str | None]]]] = {
    "no JSON": (f"{line('a')}\n{{bad\n".encode(), [("invalid_json_line", 2, None)]),
    "not UTF-8": (b'{"custom_id":"\xff"}\n', [("invalid_json_line", 1, None)]),
    "fields missing": (
        "\n".join(without(name) for name in ("custom_id", "method", "url", "body")).encode(),
        [("missing_required_parameter", n, p) for n, p in enumerate(("custom_id", "method", "url", "body"), 1)],
    ),
    "id twice": (f"{line('a')}\n\n{line('b')}\n{line('a')}".encode(), [("duplicate_custom_id", 4, "custom_id")]),
    "other URL": (line("a").replace(URL, "/v1/embeddings").encode(), [("invalid_url", 1, "url")]),
    "GET": (line("a").replace("POST", "GET").encode(), [("invalid_method", 1, "method")]),
    "stream": (line("a", stream=True).encode(), [("streaming_unsupported", 1, "body.stream")]),
    "stream as text": (line("a", stream="true").encode(), [("streaming_unsupported", 1, "body.stream")]),
    "unknown model": (line("a", model="x").encode(), [("model_not_found", 1, "body.model")]),
    "two models": (f"{line('a')}\n{line('b', model='n')}".encode(), [("mismatched_model", 2, "body.model")]),
    "no model": (line("a", model="").encode(), [("invalid_request", 1, "body.model")]),
    "no messages": (line("a", messages=None).encode(), [("invalid_request", 1, "body.messages")]),
    "blank": (b"\n \r\n", [("empty_file", None, None)]),
    "too long": (
        line("a", "x" * 100_000).encode() + b"\n{bad", [("invalid_json_line", n, None) for n in (1, 2)],
    ),
    "too many": ("\n".join(line(str(n)) for n in range(5001)).encode(), [("too_many_tasks", None, None)]),
    "surrogate": (line("a").replace('"a"', '"\\ud800"', 1).encode(), [("invalid_json_line", 1, None)]),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_LINES)
async def test_bat_09_to_16_bad_lines_fail_the_batch_and_all_are_told(service: Service, name: str) -> None:
    content, expected = BAD_LINES[name]
    client = service.openai()
    done = await ended(client, await create(client, content))
    assert done.status == "failed"
    assert done.errors is not None
    assert [(one.code, one.line, one.param) for one in done.errors.data or []] == expected
    assert not service.engine.asked


async def test_bat_16_blank_lines_byte_order_mark_and_crlf_are_taken(service: Service) -> None:
    content = b"\xef\xbb\xbf" + f"{line('a')}\r\n\r\n{line('b')}".encode()
    client = service.openai()
    done = await ended(client, await create(client, content))
    assert [one["custom_id"] for one in await rows(client, done.output_file_id)] == ["a", "b"]


async def test_bat_17_19_cancelled_batch_keeps_what_is_done(service: Service) -> None:
    client, first = service.openai(), asyncio.Event()
    lines = 3_000  # more than a worker answers before it hears of the cancel

    def fault(text: str, _: int) -> None:
        first.set()
        service.engine.hold.clear()

    service.engine.fault = fault
    made = await create(client, (line(str(number)) for number in range(lines)))
    await asyncio.wait_for(first.wait(), 60)
    cancelling = await client.batches.cancel(made.id)
    assert cancelling.status in ("cancelling", "cancelled")
    assert (await client.batches.cancel(made.id)).status in ("cancelling", "cancelled")
    service.engine.hold.set()
    service.engine.fault = lambda *_: None
    done = await ended(client, made)
    assert done.status == "cancelled"
    output, errors = await rows(client, done.output_file_id), await rows(client, done.error_file_id)
    assert sorted(int(one["custom_id"]) for one in output + errors) == list(range(lines))
    assert {one["error"]["code"] for one in errors} == {"batch_cancelled"}
    assert done.request_counts is not None
    assert done.request_counts.completed == len(output) < lines
    assert (await client.batches.cancel(made.id)).status == "cancelled"


async def test_bat_18_ended_batch_cannot_be_cancelled(service: Service) -> None:
    client = service.openai()
    done = await ended(client, await create(client, [line("a")]))
    with pytest.raises(openai.ConflictError) as caught:
        await client.batches.cancel(done.id)
    assert caught.value.response.headers["x-should-retry"] == "false"


async def test_bat_20_unknown_and_foreign_batches_are_a_404(service: Service) -> None:
    made = await create(service.openai("alice"), [line("a")])
    bob = service.openai("bob")
    for batch_id in (made.id, "batch_x", "x" * 500):
        with pytest.raises(openai.NotFoundError):
            await bob.batches.retrieve(batch_id)
        with pytest.raises(openai.NotFoundError):
            await bob.batches.cancel(batch_id)
    assert [one async for one in bob.batches.list()] == []


async def test_bat_21_list_pages_newest_first(service: Service) -> None:
    client = service.openai()
    made = {(await create(client, [line("a")])).id for _ in range(5)}
    listed = [one async for one in client.batches.list(limit=2)]
    assert {one.id for one in listed} == made
    assert [one.created_at for one in listed] == sorted((one.created_at for one in listed), reverse=True)


async def test_bat_22_window_that_passes_expires_what_is_not_done(service: Service) -> None:
    client, first = service.openai(), asyncio.Event()

    def fault(*_: object) -> None:
        first.set()
        service.engine.hold.clear()

    service.engine.fault = fault
    made = await create(client, (line(str(number)) for number in range(100)))
    await asyncio.wait_for(first.wait(), 60)
    service.clock.offset = 86_401
    service.engine.hold.set()
    service.engine.fault = lambda *_: None
    done = await ended(client, made)
    assert done.status == "expired"
    output, errors = await rows(client, done.output_file_id), await rows(client, done.error_file_id)
    assert sorted(int(one["custom_id"]) for one in output + errors) == list(range(100))
    assert {one["error"]["code"] for one in errors} == {"batch_expired"}
    assert done.request_counts is not None
    assert (done.request_counts.completed, done.request_counts.failed) == (len(output), 0)


async def test_bat_24_output_file_expires_after_its_own_creation(service: Service) -> None:
    client = service.openai()
    life = {"anchor": "created_at", "seconds": 3600}
    done = await ended(client, await create(client, [line("a")], output_expires_after=life))
    file = await client.files.retrieve(done.output_file_id or "")
    assert file.expires_at == file.created_at + 3600


@pytest.mark.parametrize("status", [401, 429, 500, 503])
async def test_bat_26_line_that_fails_for_a_while_is_sent_again(service: Service, status: int) -> None:
    service.engine.fault = lambda _, times: (status, {"retry-after": "0"}) if times <= 2 else None
    client = service.openai()
    done = await ended(client, await create(client, [line("a"), line("b")]))
    assert done.request_counts is not None
    assert done.request_counts.completed == 2
    assert service.engine.asked == {"a": 3, "b": 3}


async def test_engine_that_fails_for_good_is_asked_a_bounded_number_of_times(service: Service) -> None:
    service.engine.fault = lambda *_: (500, {"retry-after": "0"})
    client = service.openai()
    done = await ended(client, await create(client, [line("a")]))
    assert service.engine.asked == {"a": 8}
    assert [one["response"]["status_code"] for one in await rows(client, done.error_file_id)] == [500]


async def test_bat_28_batch_goes_on_when_its_input_file_is_deleted(service: Service) -> None:
    service.engine.hold.clear()
    client = service.openai()
    made = await create(client, (line(str(number)) for number in range(500)))
    await client.files.delete(made.input_file_id)
    service.engine.hold.set()
    done = await ended(client, made)
    assert done.request_counts is not None
    assert done.request_counts.completed == 500
    files = [done.output_file_id, done.error_file_id]
    for file_id in files:
        if file_id is not None:
            await client.files.delete(file_id)
    # On a busy machine a lease may be lost, and leave a segment that has no row.
    service.clock.offset = ORPHAN_SECONDS + 60.0
    await service.sweeper.sweep()
    assert service.stored() == []


async def test_bat_25_dead_workers_lines_are_taken_over_and_finished_ones_do_not_run_again(service: Service) -> None:
    """A second worker takes part and is stopped in the middle.

    No lease ends meanwhile, however busy the machine is; processes that die without a word are in `faults`.
    """
    client = service.openai()
    service.engine.fault = lambda text, _: (503, {"retry-after": "0.5"}) if int(text) >= 150 else None
    dying = asyncio.create_task(service.worker("dying", 60.0).run())
    made = await create(client, (line(str(number)) for number in range(400)))
    await batch_until(client, made, lambda one: one.request_counts is not None and one.request_counts.completed >= 100)
    before = await client.batches.retrieve(made.id)
    dying.cancel()
    service.engine.fault = lambda *_: None
    done = await ended(client, made)
    assert before.request_counts is not None
    assert done.request_counts is not None
    assert done.request_counts.completed == 400
    found = [one["custom_id"] for one in await rows(client, done.output_file_id)]
    assert found == [str(number) for number in range(400)]


async def test_stream_options_are_left_out_and_the_rest_is_sent_as_it_is(service: Service) -> None:
    client = service.openai()
    content = line("a", stream_options={"include_usage": True}, stream=False, seed=7)
    done = await ended(client, await create(client, [content]))
    assert done.request_counts is not None
    assert done.request_counts.completed == 1
    assert service.engine.headers[0]["x-owner"] == "alice"


async def test_batch_over_the_enqueued_tokens_of_its_model_fails_and_fits_when_others_have_ended(
    service: Service,
) -> None:
    """30,000 tokens each, of 50,000 that a caller may have for one model; other callers and models do not count."""
    client, bob = service.openai(), service.openai("bob")
    service.engine.hold.clear()

    def two(size: int, model: str = "m") -> list[str]:
        text = {"role": "system", "content": "x" * size}
        return [line(one, model=model, messages=[text, {"role": "user", "content": one}]) for one in ("a", "b")]

    big = two(60_000)
    first = await batch_until(client, await create(client, big), lambda one: one.status == "in_progress")
    second = await ended(client, await create(client, big))
    assert second.errors is not None
    (told,) = second.errors.data or []
    assert (told.code, told.line, told.param) == ("token_limit_exceeded", None, None)
    assert "Limit: 50,000 enqueued tokens" in (told.message or "")
    others = [
        await create(client, two(90_000, "n")),
        await create(bob, big),
    ]
    for owner, one in zip((client, bob), others, strict=True):
        await batch_until(owner, one, lambda batch: batch.status == "in_progress")
    service.engine.hold.set()
    assert (await ended(client, first)).status == "completed"
    assert (await ended(client, await create(client, big))).status == "completed"


async def test_a_record_limits_what_all_callers_have_enqueued_for_a_model(service: Service, database: Database) -> None:
    limit = LimitRecord("a", model="m", limits={ENQUEUED: 40_000})
    await ControlLedger(database).put(Section.LIMITS, limit.id, limit)
    client, bob = service.openai(), service.openai("bob")
    service.engine.hold.clear()
    prompt = {"role": "system", "content": "x" * 60_000}
    big = [line(one, messages=[prompt, {"role": "user", "content": one}]) for one in ("a", "b")]
    first = await batch_until(client, await create(client, big), lambda one: one.status == "in_progress")
    second = await ended(bob, await create(bob, big))
    assert second.errors is not None
    assert "Limit: 40,000 enqueued tokens" in ((second.errors.data or [])[0].message or "")
    service.engine.hold.set()
    assert (await ended(client, first)).status == "completed"


async def test_lines_that_begin_alike_follow_each_other_whatever_stands_before_the_prompt(service: Service) -> None:
    asked: list[str] = []
    service.engine.fault = lambda text, _: asked.append(text)
    client = service.openai()
    texts = [f"{'system ' * 20}{'AB'[number % 2]} {number}" for number in range(60)]
    lines = [
        json.dumps({"custom_id": text, "method": "POST", "url": URL, "body": {
            "seed": number, "model": "m", "messages": [{"role": "user", "content": text}]}})
        for number, text in enumerate(texts)
    ]  # fmt: skip
    await ended(client, await create(client, lines))
    groups = ["A" if "A " in text else "B" for text in asked]
    assert groups == sorted(groups)


async def test_batch_runs_beside_those_whose_model_answers_nothing(service: Service) -> None:
    """All places were taken by shards of one model that waited for its engines, for hours if they were gone."""
    service.engine.fault = lambda text, _: (503, {"retry-after": "3600"}) if text.startswith("gone") else None
    alice, bob = service.openai(), service.openai("bob")
    for number in range(SHARDS_OF_A_KIND + 1):
        await create(alice, [line(f"gone-{number}")])
    await until(lambda: len(service.engine.asked) == SHARDS_OF_A_KIND, "as many as may have been asked")
    for client, other in ((alice, line("a", model="n")), (bob, line("b"))):
        assert (await ended(client, await create(client, [other]))).status == "completed"
