"""Acceptance 7.3: what is wrong with a request is told in OpenAI's words. Bodies of any size: `bodies.py`."""

import gzip
import json
from collections.abc import Mapping
from typing import Any, Final

from aibrix_extproc.conformance import samples, sdk
from aibrix_extproc.conformance.bench import JSON, Bench
from aibrix_extproc.conformance.case import Case, Inapplicable, Need
from aibrix_extproc.conformance.expect import LEAKING, LEAKS, NO_404, check, expect_completion, expect_error

CHAT: Final = "/v1/chat/completions"
VLLM_FIELDS: Final[Mapping[str, object]] = {"unknown_param": 1, "top_k": 5, "min_p": 0.1}
OTHER_NAMES: Final[Mapping[str, str]] = {"max_tokens": "max_completion_tokens"}  # which OpenAI has for the same
MANY_TOKENS: Final = 10_000_000


def _malformed(bench: Bench) -> None:
    for body in (b"{bad", bench.chat_bytes()[:-1]):
        expect_error(bench.send("POST", CHAT, body, JSON), 400)


def _no_object(bench: Bench) -> None:
    for body in (b"[1]", b'"x"', b"null", b""):
        expect_error(bench.send("POST", CHAT, body, JSON), 400)


def _invalid_utf_8(bench: Bench) -> None:
    body = bench.chat_bytes().replace(b"hello", b"hel\xfflo")
    expect_error(bench.send("POST", CHAT, body, JSON), 400)


def _two_models(bench: Bench) -> None:
    rest = f'"messages":{json.dumps(samples.HELLO)},"max_tokens":2'
    known, unknown = json.dumps(bench.model()), json.dumps(samples.UNKNOWN_MODEL)
    served = bench.send("POST", CHAT, f'{{"model":{unknown},{rest},"model":{known}}}'.encode(), JSON)
    if served.status == 400:
        expect_error(served, 400)  # whoever refuses a member that comes twice cannot be fooled by it
    else:
        expect_completion(served)
    refused = bench.send("POST", CHAT, f'{{"model":{known},{rest},"model":{unknown}}}'.encode(), JSON)
    expect_error(refused, 404, code="model_not_found")


def _no_model(bench: Bench) -> None:
    answer = bench.post(CHAT, {"messages": list(samples.HELLO), "max_tokens": 2})
    expect_error(answer, 400, param="model")


def _wrong_models(bench: Bench) -> None:
    wrong: tuple[object, ...] = ("", 5, None, [])
    for model in wrong:
        expect_error(bench.chat({"model": model}), *((400, 404) if model == "" else (400,)), param="model")


def _unknown_model(bench: Bench) -> None:
    raised, answer = sdk.refused(lambda: _create(bench, model=samples.UNKNOWN_MODEL), "NotFoundError", NO_404)
    expect_error(answer, 404, code="model_not_found")
    check(raised.code == "model_not_found", "e.code == 'model_not_found'", repr(raised.code))


def _unknown_model_streamed(bench: Bench) -> None:
    _, answer = sdk.refused(lambda: _create(bench, model=samples.UNKNOWN_MODEL, stream=True), "NotFoundError", NO_404)
    expect_error(answer, 404, code="model_not_found")


def _create(bench: Bench, **fields: Any) -> object:
    made: object = bench.client().chat.completions.create(
        **{"model": bench.model(), "messages": list(samples.HELLO), "max_tokens": 8, **fields}
    )
    return made


def _inexact_models(bench: Bench) -> None:
    listed = {card.id for card in bench.deployment.cards}
    for model in (f"{bench.model()} ", bench.model().swapcase()):
        if model not in listed:
            expect_error(bench.chat({"model": model}), 404, code="model_not_found")


def _no_messages(bench: Bench) -> None:
    answer = bench.post(CHAT, {"model": bench.model()})
    expect_error(answer, 400, code="missing_required_parameter", param="messages")


def _wrong_messages(bench: Bench) -> None:
    expect_error(bench.chat({"messages": "hi"}), 400, code="invalid_type", param="messages")


def _wrong_temperature(bench: Bench) -> None:
    expect_error(bench.chat({"temperature": "hot"}), 400, code="invalid_type", param="temperature")


def _out_of_range(bench: Bench) -> None:
    for field, value in (("temperature", -1), ("top_p", 3), ("n", 0), ("max_tokens", 0)):
        error = expect_error(bench.chat({field: value}), 400)
        check(error["param"] in (field, OTHER_NAMES.get(field)), f"param {field!r}", error)
        check("(parameter=" not in error["message"], "a message without '(parameter=...)'", error)
        check(error["code"] is None or "value" in error["code"], "code invalid_value or the like", error)


def _small_context(bench: Bench) -> tuple[str, int]:
    """The chat model with the shortest context, so that the prompt over it is short."""
    deployment = bench.deployment
    known = {
        model: length for model, length in deployment.contexts.items()
        if model == bench.model() or Need.CHAT in deployment.serves.get(model, ())
    }  # fmt: skip
    if not known:
        raise Inapplicable("no chat model has a known context length; give --context-length")
    return min(known.items(), key=lambda item: item[1])


def _too_long_chat(bench: Bench) -> None:
    model, length = _small_context(bench)
    messages = [{"role": "user", "content": "word " * (length + 100)}]
    raised, answer = sdk.refused(lambda: _create(bench, model=model, messages=messages), "BadRequestError")
    expect_error(answer, 400, code="context_length_exceeded", contains=rf"maximum context length is {length} tokens")
    check(raised.code == "context_length_exceeded", "e.code == 'context_length_exceeded'", repr(raised.code))


def _too_long_elsewhere(bench: Bench) -> None:
    model, length = _small_context(bench)
    asked = [("/v1/completions", model, length, "prompt")]
    if Need.RESPONSES in bench.deployment.serves.get(model, ()):
        asked.append(("/v1/responses", model, length, "input"))
    embedding = bench.deployment.models.get(Need.EMBEDDING, "")
    if embedding in bench.deployment.contexts:
        asked.append(("/v1/embeddings", embedding, bench.deployment.contexts[embedding], "input"))
    for path, name, tokens, param in asked:
        answer = bench.post(path, {"model": name, param: "word " * (tokens + 100)})
        expect_error(answer, 400, code="context_length_exceeded", param=param)


def _too_much_output(bench: Bench) -> None:
    answer = bench.chat({"max_tokens": MANY_TOKENS})
    if answer.status == 200:
        expect_completion(answer)
        raise Inapplicable(f"{bench.model()} generates as much as fits")
    expect_error(answer, 400, param="max_tokens")


def _stream_options(bench: Bench) -> None:
    answer = bench.chat({"stream_options": {"include_usage": True}})
    if answer.status == 200:  # one may ignore it
        expect_completion(answer)
    else:
        expect_error(answer, 400, param="stream_options")


def _unknown_fields(bench: Bench) -> None:
    expect_completion(bench.chat(VLLM_FIELDS))
    made = _create(bench, extra_body=dict(VLLM_FIELDS))
    check(getattr(made, "choices", None), "a completion through extra_body", made)


def _text_plain(bench: Bench) -> None:
    _served_or_refused(bench, "text/plain")


def _content_types(bench: Bench) -> None:
    with_charset = {"content-type": "application/json; charset=utf-8"}
    expect_completion(bench.send("POST", CHAT, bench.chat_bytes(), with_charset))
    _served_or_refused(bench, "application/vnd.api+json")


def _served_or_refused(bench: Bench, content_type: str) -> None:
    """One may read a body of another type as JSON; a refusal must be in shape."""
    answer = bench.send("POST", CHAT, bench.chat_bytes(), {"content-type": content_type})
    if answer.status == 200:
        expect_completion(answer)
    else:
        expect_error(answer, 400, 415)


def _gzip(bench: Bench) -> None:
    headers = {**JSON, "content-encoding": "gzip"}
    answer = bench.send("POST", CHAT, gzip.compress(bench.chat_bytes()), headers)
    if answer.status == 200:
        expect_completion(answer)
    else:
        expect_error(answer, 400, 415)


def _leaks(bench: Bench) -> None:
    odd: tuple[dict[str, object], ...] = (
        {"model": samples.UNKNOWN_MODEL}, {"model": 5}, {"messages": [{"role": "user"}]}, {"messages": [5]},
        {"messages": [{"role": "user", "content": [{"type": "nonsense"}]}]}, {"temperature": "hot"}, {"n": "x"},
        {"logit_bias": {"x": 1000}}, {"response_format": {"type": "nonsense"}}, {"tools": [{"type": "x"}]},
        {"stop": 5}, {"top_logprobs": 3},
    )  # fmt: skip
    refused = 0
    for fields in odd:
        answer = bench.chat(fields)
        if answer.status < 400:
            continue  # what a model says is no leak
        refused += 1
        found = LEAKS.search(answer.body.decode(errors="replace"))
        check(not found, f"an answer to {fields} without internals", f"{found and found[0]!r} in {answer}", LEAKING)
    if not refused:
        raise Inapplicable("the deployment refuses none of the odd requests")


def _tool_choice(bench: Bench) -> None:
    chats = [model for model, kinds in bench.deployment.serves.items() if Need.CHAT in kinds]
    for model in chats or [bench.model()]:
        answer = bench.chat({"model": model, "tools": [samples.tool()], "tool_choice": "auto"})
        if answer.status != 200:
            expect_error(answer, 400, param="tool_choice")
            return
        expect_completion(answer)
    raise Inapplicable("every chat model takes tool_choice auto")


def _features(bench: Bench) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    form = {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}
    scored = expect_completion(bench.chat({"logprobs": True, "top_logprobs": 2, "seed": 7}))
    check(scored["choices"][0].get("logprobs"), "logprobs", scored["choices"][0])
    expect_completion(bench.chat({"response_format": form, "max_tokens": 64}))
    several = bench.chat({"n": 2})
    called = bench.chat({"tools": [samples.tool()], "tool_choice": "required", "max_tokens": 64})
    lacking = [name for name, answer in (("n=2", several), ("tools", called)) if answer.status == 400]
    if several.status != 400:
        choices = expect_completion(several).get("choices", [])
        check(len(choices) == 2, "two choices of n=2", several)
    if called.status != 400:
        expect_completion(called)
    if lacking:
        raise Inapplicable(f"{bench.model()} takes no {' and no '.join(lacking)}; the others are served")


_CHAT: Final = (Need.CHAT,)
CASES: Final = (
    # id, title, expected, check, needs
    Case("REQ-01", "malformed JSON", "400 in shape", _malformed, _CHAT),
    Case("REQ-02", "array, string, null, empty body", "400 in shape", _no_object, _CHAT),
    Case("REQ-03", "invalid UTF-8", "400 in shape", _invalid_utf_8, _CHAT),
    Case("REQ-04", "model twice", "the last one counts, or 400", _two_models, _CHAT),
    Case("REQ-05", "no model", "400 in shape", _no_model, _CHAT),
    Case("REQ-06", "model empty, number, null, array", "400 param model", _wrong_models, _CHAT),
    Case("REQ-07", "unknown model through the SDK", "NotFoundError model_not_found", _unknown_model, _CHAT),
    Case("REQ-08", "unknown model of a stream", "the same 404 as JSON", _unknown_model_streamed, _CHAT),
    Case("REQ-09", "model with a space or in other case", "404 model_not_found", _inexact_models, _CHAT),
    Case("REQ-10", "no messages", "400 missing_required_parameter, param messages", _no_messages, _CHAT),
    Case("REQ-11", "messages as text", "400 invalid_type, param messages", _wrong_messages, _CHAT),
    Case("REQ-12", "temperature as text", "400 invalid_type, param temperature", _wrong_temperature, _CHAT),
    Case("REQ-13", "values out of range", "400 that names the field", _out_of_range, _CHAT),
    Case("REQ-14", "prompt over the context", "BadRequestError context_length_exceeded with the length",
         _too_long_chat, (Need.CHAT, Need.CONTEXT)),
    Case("REQ-15", "the same on completions, responses, embeddings", "400 context_length_exceeded, param named",
         _too_long_elsewhere, (Need.CHAT, Need.CONTEXT)),
    Case("REQ-16", "more output than the context", "400 param max_tokens", _too_much_output, _CHAT),
    Case("REQ-17", "stream_options without stream", "400 param stream_options, or ignored", _stream_options, _CHAT),
    Case("REQ-18", "unknown and vLLM's own fields", "200", _unknown_fields, _CHAT),
    Case("REQ-19", "content-type text/plain", "400 or 415 in shape, or served", _text_plain, _CHAT),
    Case("REQ-20", "JSON with charset; another JSON type", "200; served or refused in shape", _content_types, _CHAT),
    Case("REQ-21", "gzip body", "200, or 400 or 415 in shape", _gzip, _CHAT),
    Case("REQ-28", "answers to odd requests", "no paths, dumps or aliases of the engine", _leaks, _CHAT),
    Case("REQ-29", "tool_choice auto without a parser", "400 param tool_choice", _tool_choice, _CHAT),
    Case("REQ-30", "n, logprobs, seed, JSON schema, tools", "200", _features, _CHAT),
)  # fmt: skip
