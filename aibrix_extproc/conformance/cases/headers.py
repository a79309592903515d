"""Acceptance 7.1, headers."""

import re
from typing import Final

from aibrix_extproc.conformance import samples
from aibrix_extproc.conformance.bench import JSON, Bench
from aibrix_extproc.conformance.case import Case, Inapplicable, Need
from aibrix_extproc.conformance.expect import (
    NO_REQUEST_ID,
    check,
    expect_completion,
    expect_error,
    expect_json,
    expect_status,
)
from aibrix_extproc.conformance.wire import Answer

LIMITS: Final = tuple(
    f"x-ratelimit-{what}-{of}" for what in ("limit", "remaining", "reset") for of in ("requests", "tokens")
)
DURATION: Final = re.compile(r"(?:\d+h)?(?:\d+m)?(?:\d+(?:\.\d+)?s)?|\d+ms")
REQUESTS_PER_LINE: Final = 100


def _request_ids(bench: Bench) -> None:
    client = bench.client()
    seen = set()
    for _ in range(3):
        raw = client.chat.completions.with_raw_response.create(
            model=bench.model(), messages=list(samples.HELLO), max_tokens=4
        )
        name = raw.headers.get("x-request-id")
        check(name, "an x-request-id header", "none", NO_REQUEST_ID)
        check(raw.parse()._request_id == name, f"_request_id {name!r}", raw.parse()._request_id)
        seen.add(name)
    check(len(seen) == 3, "three different ids of three calls", seen)


def _client_ids(bench: Bench) -> None:
    for name in ("x-request-id", "x-client-request-id"):
        answer = bench.chat(headers={name: "abc"})
        expect_completion(answer)
        found = answer.header("x-request-id")
        check(found, f"one x-request-id when the client sends {name}", "none", NO_REQUEST_ID)


def _times(bench: Bench) -> None:
    answer = bench.chat()
    expect_completion(answer)
    spent = answer.header("openai-processing-ms")
    check(not spent or spent.isdigit(), "openai-processing-ms as an integer, if it is sent", repr(spent))


def _limits(bench: Bench) -> None:
    answer = bench.chat()
    expect_completion(answer)
    present = [name for name in LIMITS if answer.header(name)]
    if not present:
        raise Inapplicable("no rate limits are announced")
    check(len(present) == len(LIMITS), f"all of {', '.join(LIMITS)}", present)
    for name in LIMITS:
        _limit(name, answer)


def _limit(name: str, answer: Answer) -> None:
    value = answer.header(name)
    if "-reset-" in name:
        check(value and DURATION.fullmatch(value), f"{name} as a duration like 1m26.4s or 12ms", repr(value))
    else:
        check(value.isdigit(), f"{name} as an integer", repr(value))


def _stream_headers(bench: Bench) -> None:
    client = bench.client()
    with client.chat.completions.create(
        model=bench.model(), messages=list(samples.HELLO), max_tokens=4, stream=True
    ) as stream:
        headers = stream.response.headers
        check(headers.get("x-request-id"), "x-request-id on the head of a stream", "none", NO_REQUEST_ID)
        kind = headers.get("content-type", "")
        check(kind.startswith("text/event-stream"), "content-type text/event-stream", kind)
        caching = headers.get("cache-control", "no-cache")
        check("no-" in caching or "private" in caching, "cache-control: no-cache, or none", caching)
        buffering = headers.get("x-accel-buffering", "no")
        check(buffering == "no", "x-accel-buffering: no, or none", buffering)
        check(list(stream), "chunks", "none")


def _engine_controls(bench: Bench) -> None:
    controls = {"x-vllm-priority": "-5", "x-data-parallel-rank": "0", "endpoint-load-metrics-format": "TEXT"}
    answer = bench.chat(headers=controls)
    expect_completion(answer)
    load = answer.header("endpoint-load-metrics")
    check(not load, "no endpoint-load-metrics in the answer", load)


def _organization(bench: Bench) -> None:
    client = bench.client(organization="org-conformance", project="proj-conformance", _strict_response_validation=True)
    made = client.chat.completions.create(model=bench.model(), messages=list(samples.HELLO), max_tokens=4)
    check(made.choices, "a completion", made)


def _many_headers(bench: Bench) -> None:
    many = {f"x-custom-{number}": "v" * 20 for number in range(80)}
    for headers in (many, {"x-long": "v" * 16_384}):
        answer = bench.chat(headers=headers)
        if answer.status == 200:
            expect_completion(answer)
        else:
            expect_error(answer, 431)


def _http_1_0(bench: Bench) -> None:
    answer = bench.talk(bench.head("GET", "/v1/models", "1.0"))
    check(expect_json(answer).get("object") == "list", "the models over HTTP/1.0", answer)


def _one_connection(bench: Bench) -> None:
    _http_1_0(bench)
    with bench.line() as line:
        for number in range(REQUESTS_PER_LINE):
            if number % 10:
                answer = line.ask("GET", bench.path("/v1/models"), bench.headers())
            else:
                body = bench.chat_bytes({"stream": True, "max_tokens": 2})
                answer = line.ask("POST", bench.path("/v1/chat/completions"), bench.headers(JSON), body)
                check(answer.body.endswith(b"data: [DONE]\n\n"), "a stream that ends with [DONE]", answer)
            expect_status(answer, 200)
            expected = f"{REQUESTS_PER_LINE} requests and streams on one connection"
            check(line.is_open, expected, f"closed after {number + 1}")


CASES: Final = (
    # id, title, expected, check, needs
    Case("HDR-01", "request id of a completion", "_request_id set, equal to the header, unique", _request_ids,
         (Need.CHAT,)),
    Case("HDR-02", "client's own request id", "exactly one x-request-id in the answer", _client_ids, (Need.CHAT,)),
    Case("HDR-03", "processing time and version", "openai-processing-ms an integer, if it is sent", _times,
         (Need.CHAT,)),
    Case("HDR-04", "announced rate limits", "six x-ratelimit headers, integers and durations", _limits,
         (Need.CHAT,)),
    Case("HDR-05", "head of a stream", "x-request-id, event stream, never cached or buffered", _stream_headers,
         (Need.CHAT,)),
    Case("HDR-06", "engine controls from a client", "200 without endpoint-load-metrics", _engine_controls,
         (Need.CHAT,)),
    Case("HDR-07", "OpenAI-Organization and OpenAI-Project", "accepted", _organization, (Need.CHAT,)),
    Case("HDR-08", "80 headers, a header of 16 KiB", "200 or 431 in shape", _many_headers, (Need.CHAT,)),
    Case("HDR-09", "HTTP/1.0, 100 requests on a connection", "all served, connection kept after [DONE]",
         _one_connection, (Need.CHAT,), time_factor=2),
)  # fmt: skip
