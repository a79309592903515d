"""Acceptance 7.7, as far as a client alone can provoke it: nothing here needs a broken engine."""

import contextlib
import json
from collections.abc import Iterator
from typing import Final

from aibrix_extproc.conformance import samples
from aibrix_extproc.conformance.bench import JSON, Bench
from aibrix_extproc.conformance.case import Case, Need
from aibrix_extproc.conformance.expect import check, expect_error, expect_retry_headers, expect_status
from aibrix_extproc.conformance.wire import Answer

LONG_HEADER: Final = 1_000_000


def _not_http(bench: Bench) -> None:
    path, host = bench.path("/v1/models"), bench.target.origin.authority
    start = f"GET {path} HTTP/1.1\r\n"
    for request in (
        f"{start}connection: close\r\nhost: {host}\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabc",
        f"{start}connection: close\r\nhost: {host}\r\ncontent-length: -1\r\n\r\n",
    ):
        expect_status(bench.talk(request.encode()), 400)  # no SDK sends such a thing, so none reads the body
    with contextlib.suppress(OSError):  # one may close the connection while the header is still sent
        expect_status(bench.send("GET", "/v1/models", headers={"x-long": "a" * LONG_HEADER}), 400, 431)
    expect_error(bench.send("GET", "/no-such-path"), 404)


def _stream_refused(bench: Bench) -> None:
    refused: tuple[dict[str, object], ...] = (
        {"model": samples.UNKNOWN_MODEL}, {"temperature": "hot"}, {"messages": []},
    )  # fmt: skip
    for fields in refused:
        expect_error(bench.chat({"stream": True, **fields}), 400, 404)


def _events(bench: Bench) -> None:
    answer = expect_status(bench.chat({"stream": True, "max_tokens": 32}), 200)
    check(answer.body.endswith(b"\n\n"), "a blank line behind the last event", answer.body[-50:])
    for line in answer.body.decode("utf-8", errors="replace").split("\n"):
        text = line.removesuffix("\r")
        value = text.removeprefix("data:").strip()
        harmless = not text or text.startswith(":") or (text.startswith("data:") and _is_event(value))
        check(harmless, "only data: with JSON or [DONE], and comments", repr(text))


def _is_event(value: str) -> bool:
    if value == "[DONE]":
        return True
    try:
        return isinstance(json.loads(value), dict)
    except ValueError:
        return False


def _retry_after(bench: Bench) -> None:
    for answer in _refusals(bench):
        check(answer.status >= 400, "a refusal", answer)
        expect_retry_headers(answer)
        needs = answer.status in (429, 503) and not answer.header("retry-after")
        check(not needs, "retry-after on 429 and 503", answer)


def _refusals(bench: Bench) -> Iterator[Answer]:
    yield bench.chat({"model": samples.UNKNOWN_MODEL})
    yield bench.chat({"temperature": "hot"})
    yield bench.post("/v1/nope", {})
    yield bench.send("DELETE", "/v1/models")
    yield bench.send("POST", "/v1/chat/completions", b"{bad", JSON)
    yield bench.send("GET", "/v1/models/" + samples.UNKNOWN_MODEL)


CASES: Final = (
    # id, title, expected, check, needs
    Case("ERR-17", "broken HTTP, header of 1 MB, unknown path", "400, 431, 404 in shape", _not_http),
    Case("ERR-19", "stream that fails before its first byte", "JSON with the status, no event stream",
         _stream_refused, (Need.CHAT,)),
    Case("ERR-20", "lines of a stream", "data and comments only, blank line at the end", _events, (Need.CHAT,)),
    Case("ERR-21", "retry-after of refusals", "1 to 60 seconds, never without on 429 and 503", _retry_after,
         (Need.CHAT,)),
)  # fmt: skip
