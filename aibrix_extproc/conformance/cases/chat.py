"""Acceptance 7.4: chat completions and completions."""

import asyncio
import base64
import contextlib
import itertools
import json
import time
from typing import Any, Final

from aibrix_extproc.conformance import samples, sdk
from aibrix_extproc.conformance.bench import JSON, Bench
from aibrix_extproc.conformance.case import Case, Inapplicable, Mismatch, Need
from aibrix_extproc.conformance.expect import check, expect_completion, expect_error, expect_json, expect_status

SAME_ANSWER_TRIES: Final = 3  # batching makes real engines vary a little even with a seed
PACE_TRIES: Final = 5  # a busy engine pauses now and then; who holds tokens back does so each time
REFUSED: Final = (400, 422, 501)  # a request that is right, by a model that cannot do it
SLOW_STREAM_SECONDS: Final = 0.25  # shorter ones do not tell whether tokens are held back
SPREAD_SHARE: Final = 0.5  # of the time that the tokens took


def _create(bench: Bench, **fields: Any) -> Any:
    client = bench.client(_strict_response_validation=True)
    return client.chat.completions.create(
        **{"model": bench.model(), "messages": list(samples.HELLO), "max_tokens": 8, **fields}
    )


def _text(chunks: list[Any]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def _whole(bench: Bench) -> None:
    made = _create(bench)
    check(made.object == "chat.completion", "object chat.completion", made)
    # An alias may answer under the name that it stands for, as OpenAI's do; that one is listed as well.
    names = {bench.model(), *(card.id for card in bench.deployment.cards)}
    check(made.model in names, f"model {bench.model()}", made.model)
    check(made.choices[0].message.role == "assistant", "an assistant's message", made)
    usage = made.usage
    sums = usage is not None and usage.prompt_tokens > 0
    check(sums and usage.total_tokens == usage.prompt_tokens + usage.completion_tokens, "usage that adds up", usage)


def _streamed(bench: Bench) -> None:
    for left in reversed(range(SAME_ANSWER_TRIES)):
        whole = _create(bench, seed=3, temperature=0).choices[0].message.content
        chunks = list(_create(bench, seed=3, temperature=0, stream=True))
        if _text(chunks) == whole:
            break
        check(left, f"the text of the whole answer, {whole!r}", repr(_text(chunks)))
    check(chunks[0].choices[0].delta.role == "assistant", "role assistant in the first chunk", chunks[0])
    reasons = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices and chunk.choices[0].finish_reason]
    check(len(reasons) == 1, "one finish_reason", reasons)
    ids = {chunk.id for chunk in chunks}
    check(len(ids) == 1, "one id in all chunks", ids)
    raw = expect_status(bench.chat({"stream": True}), 200)
    check(raw.body.endswith(b"data: [DONE]\n\n"), "data: [DONE] at the end", raw.body[-100:])


def _usage_last(bench: Bench) -> None:
    chunks = list(_create(bench, stream=True, stream_options={"include_usage": True}))
    empty = [at for at, chunk in enumerate(chunks) if not chunk.choices]
    check(empty == [len(chunks) - 1], "one chunk without choices, the last", _without_choices(empty, chunks))
    check(chunks[-1].usage and chunks[-1].usage.total_tokens > 0, "usage in it", chunks[-1])


def _without_choices(empty: list[int], chunks: list[Any]) -> str:
    """Which chunks of a stream had no choices, as a sentence."""
    count = len(chunks)
    if empty:
        return f"of {count} chunks, {', '.join(f'number {at + 1}' for at in empty)} had no choices"
    with_usage = [at for at, chunk in enumerate(chunks, 1) if chunk.usage]
    usage = f"the usage is in number {with_usage[-1]}" if with_usage else "none has the usage"
    return f"each of the {count} chunks has choices; {usage}"


def _no_usage(bench: Bench) -> None:
    _check_no_usage(list(_create(bench, stream=True)))


def _usage_refused(bench: Bench) -> None:
    _check_no_usage(list(_create(bench, stream=True, stream_options={"include_usage": False})))


def _check_no_usage(chunks: list[Any]) -> None:
    seen = [chunk for chunk in chunks if not chunk.choices or getattr(chunk, "usage", None)]
    check(chunks and not seen, "chunks without usage", seen or "no chunks")


def _stream_helper(bench: Bench) -> None:
    client = bench.client()
    with client.chat.completions.stream(
        model=bench.model(), messages=list(samples.HELLO), max_tokens=8, stream_options={"include_usage": True}
    ) as stream:
        kinds = {event.type for event in stream}
        try:
            final = stream.get_final_completion()
        except Exception as error:
            # The helper raises for an answer cut by max_tokens, with the completion inside.
            final = getattr(error, "completion", None)
            if final is None:
                raise
    check("chunk" in kinds, "chunk events", kinds)
    check(final.usage and final.usage.completion_tokens, "a final completion with usage", final)


def _parse(bench: Bench) -> None:
    import pydantic

    class Place(pydantic.BaseModel):
        city: str

    client = bench.client()
    question = [{"role": "user", "content": "Name a city, as JSON."}]
    asked: dict[str, Any] = {"model": bench.model(), "messages": question, "response_format": Place, "max_tokens": 256}
    made = sdk.finished(lambda: client.chat.completions.parse(**asked))
    check(isinstance(made.choices[0].message.parsed, Place), "a parsed object", made)


def _many_streams(bench: Bench) -> None:
    ids = asyncio.run(_read_streams(bench, bench.target.streams))
    check(all(len(one) == 1 for one in ids), "one id in each stream", [one for one in ids if len(one) != 1][:3])
    different = len(set().union(*ids))
    check(different == len(ids), f"{len(ids)} different ids", different)


async def _read_streams(bench: Bench, count: int) -> list[set[str]]:
    models = [bench.model(), bench.deployment.models.get(Need.SECOND, bench.model())]
    async with bench.async_client() as client:

        async def one(number: int) -> set[str]:
            messages = [{"role": "user", "content": f"Say the number {number}."}]
            model = models[number % 2]
            stream = await client.chat.completions.create(model=model, messages=messages, max_tokens=8, stream=True)
            chunks = [chunk async for chunk in stream]
            reasons = [chunk for chunk in chunks if chunk.choices and chunk.choices[0].finish_reason]
            check(len(reasons) == 1, f"stream {number} to its end", f"{len(chunks)} chunks")
            return {chunk.id for chunk in chunks}

        return await asyncio.gather(*(one(number) for number in range(count)))


def _one_by_one(bench: Bench) -> None:
    for _ in range(PACE_TRIES - 1):
        with contextlib.suppress(Mismatch):
            _spread_out(bench)
            return
    _spread_out(bench)


def _spread_out(bench: Bench) -> None:
    question = [{"role": "user", "content": "Count from one to forty."}]
    fields = {"messages": question, "stream": True}
    first_token, _ = _arrivals(bench, fields | {"max_tokens": 1})
    whole, arrivals = _arrivals(bench, fields | {"max_tokens": 64})
    generated = whole - first_token
    if generated < SLOW_STREAM_SECONDS or not arrivals:
        raise Inapplicable(f"64 tokens within {max(generated, 0) * 1000:.0f} ms are too fast to tell")
    spread = arrivals[-1] - arrivals[0]
    expected = f"tokens that took {generated * 1000:.0f} ms spread over most of that"
    check(spread > SPREAD_SHARE * generated, expected, f"all within {spread * 1000:.0f} ms")
    gap = max(after - before for before, after in itertools.pairwise(arrivals))
    check(gap < SPREAD_SHARE * generated, f"{expected}, without a long pause", f"a pause of {gap * 1000:.0f} ms")


def _arrivals(bench: Bench, fields: dict[str, Any]) -> tuple[float, list[float]]:
    """Seconds that a stream took, and when its pieces came."""
    arrivals: list[float] = []
    body = bench.chat_bytes(fields)
    with bench.line() as line:
        started = time.monotonic()
        answer = line.ask(
            "POST", bench.path("/v1/chat/completions"), bench.headers(JSON), body,
            on_data=lambda _: arrivals.append(time.monotonic()),
        )  # fmt: skip
        took = time.monotonic() - started
    expect_status(answer, 200)
    check(samples.data_lines(answer)[-1:] == ["[DONE]"], "an event stream that ends with [DONE]", answer)
    return took, arrivals


def _not_compressed(bench: Bench) -> None:
    answer = expect_status(bench.chat({"stream": True}, {"accept-encoding": "gzip, deflate, br"}), 200)
    encoding = answer.header("content-encoding")
    check(not encoding and answer.body.startswith(b"data:"), "an event stream as text", encoding or answer)


def _images(bench: Bench) -> None:
    url = "data:image/png;base64," + base64.b64encode(samples.png()).decode()
    image = {"type": "image_url", "image_url": {"url": url}}

    def ask(count: int) -> Any:
        content = [{"type": "text", "text": "What is it?"}, *([image] * count)]
        return bench.chat({"messages": [{"role": "user", "content": content}]})

    # How a refusal is worded is for the cases about requests to judge.
    if ask(1).status in REFUSED:
        raise Inapplicable(f"{bench.model()} takes no images")
    expect_completion(ask(8))


def _tool_call(bench: Bench) -> None:
    asked = {"tools": [samples.tool(strict=True)], "tool_choice": "required", "max_tokens": 128, "stream": True}
    question = [{"role": "user", "content": "What is the weather in Paris?"}]
    if bench.chat({**asked, "messages": question}).status in REFUSED:
        raise Inapplicable(f"{bench.model()} calls no tools")
    names, arguments, ended = [], "", None
    for chunk in _create(bench, messages=question, **asked):
        ended = (chunk.choices[0].finish_reason or ended) if chunk.choices else ended
        for call in (chunk.choices[0].delta.tool_calls or []) if chunk.choices else []:
            names += [call.function.name] if call.function.name else []
            arguments += call.function.arguments or ""
    if ended == "length":
        raise Inapplicable(f"{bench.model()} does not end its call within {asked['max_tokens']} tokens")
    check(names == ["weather"], "a call of weather", names)
    try:
        json.loads(arguments)
    except ValueError as error:
        raise Mismatch("arguments that add up to JSON", repr(arguments)) from error


def _reasoning(bench: Bench) -> None:
    whole = expect_completion(bench.chat({"max_tokens": 64}))["choices"][0]["message"]
    if not whole.get("reasoning"):
        raise Inapplicable(f"{bench.model()} shows no reasoning")
    answer = expect_status(bench.chat({"max_tokens": 64, "stream": True}), 200)
    chunks = [json.loads(line) for line in samples.data_lines(answer) if line.startswith("{")]
    said = "".join(one["choices"][0]["delta"].get("reasoning") or "" for one in chunks if one["choices"])
    check(said, "reasoning in the stream as in the whole answer", answer)


def _lora(bench: Bench) -> None:
    model = bench.model(Need.LORA)
    made = _create(bench, model=model)
    check(made.model == model, f"model {model}", made.model)


def _newer_fields(bench: Bench) -> None:
    messages = [{"role": "developer", "content": "Be brief."}, *samples.HELLO]
    body = {"model": bench.model(), "messages": messages, "max_completion_tokens": 5}
    made = expect_completion(bench.send("POST", "/v1/chat/completions", json.dumps(body).encode(), JSON))
    check(made.get("usage", {}).get("completion_tokens", 99) <= 5, "at most 5 completion tokens", made)


def _completions(bench: Bench) -> None:
    _completion_stream(bench)
    if bench.post("/v1/completions", {"model": bench.model(), "prompt": ["one", "two"], "max_tokens": 4}).status == 400:
        raise Inapplicable(f"{bench.model()} takes one prompt at a time; its stream is good")
    client = bench.client(_strict_response_validation=True)
    made = client.completions.create(model=bench.model(), prompt=["one", "two"], max_tokens=4)
    check([choice.index for choice in made.choices] == [0, 1], "a choice for each prompt", made)


def _completion_stream(bench: Bench) -> None:
    asked = {"model": bench.model(), "prompt": "one", "max_tokens": 4, "stream": True}
    # Loose: vLLM's finish_reason is null until the last chunk, which OpenAI's schema does not know.
    chunks = list(bench.client().completions.create(**asked, stream_options={"include_usage": True}))
    usage = chunks[-1].usage
    check(not chunks[-1].choices and usage and usage.total_tokens, "usage in a last chunk without choices", chunks[-1])


def _suffix(bench: Bench) -> None:
    answer = bench.post("/v1/completions", {"model": bench.model(), "prompt": "a", "suffix": "z", "max_tokens": 4})
    if answer.status == 200:
        check(expect_json(answer).get("object") == "text_completion", "a completion or a refusal", answer)
        raise Inapplicable(f"{bench.model()} completes in the middle")
    expect_error(answer, 400, param="suffix")


_CHAT: Final = (Need.CHAT,)
CASES: Final = (
    # id, title, expected, check, needs
    Case("CHAT-01", "create", "strictly valid completion, usage adds up", _whole, _CHAT),
    Case("CHAT-02", "stream", "same text as whole, one finish_reason, [DONE]", _streamed, _CHAT),
    Case("CHAT-03", "stream with include_usage", "usage once, in a last chunk without choices", _usage_last, _CHAT),
    Case("CHAT-04", "stream without stream_options", "no usage visible", _no_usage, _CHAT),
    Case("CHAT-05", "include_usage false", "no usage visible", _usage_refused, _CHAT),
    Case("CHAT-06", "the SDK's stream helper", "final completion with usage", _stream_helper, _CHAT),
    Case("CHAT-07", "the SDK's parse helper", "parsed object", _parse, _CHAT),
    Case("CHAT-08", "many streams at once", "all end, ids do not mix", _many_streams, _CHAT, is_large=True,
         time_factor=4),
    Case("CHAT-09", "pace of a stream", "chunks arrive one by one", _one_by_one, _CHAT),
    Case("CHAT-11", "stream for a client that takes gzip", "not compressed", _not_compressed, _CHAT),
    Case("CHAT-14", "eight images", "200", _images, _CHAT),
    Case("CHAT-15", "streamed tool call", "arguments add up to JSON", _tool_call, _CHAT),
    Case("CHAT-16", "reasoning", "whole and streamed", _reasoning, _CHAT),
    Case("CHAT-17", "LoRA adapter", "answers under its name", _lora, (Need.LORA,)),
    Case("CHAT-18", "max_completion_tokens, developer role", "200", _newer_fields, _CHAT),
)  # fmt: skip
COMPLETION_CASES: Final = (
    Case("COMP-01", "list of prompts; stream with usage", "valid completions", _completions, _CHAT),
    Case("COMP-02", "suffix", "400 param suffix", _suffix, _CHAT),
)
