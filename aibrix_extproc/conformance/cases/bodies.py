"""Acceptance 7.3, framing and size of request bodies."""

import json
import time
from collections.abc import Iterator
from typing import Final

from aibrix_extproc.conformance import samples
from aibrix_extproc.conformance.bench import JSON, Bench
from aibrix_extproc.conformance.case import Case, Need
from aibrix_extproc.conformance.expect import check, expect_completion, expect_error
from aibrix_extproc.conformance.wire import parsed, received

CHAT: Final = "/v1/chat/completions"
MEGABYTE: Final = 1_000_000
STALL_SECONDS: Final = 0.9  # curl waits a second for a 100 that does not come


def _chunked(bench: Bench) -> None:
    body = bench.chat_bytes()
    expect_completion(bench.send("POST", CHAT, (body[at : at + 7] for at in range(0, len(body), 7)), JSON))


def _expect_continue(bench: Bench) -> None:
    body = bench.chat_bytes({"padding": "x" * 1_500_000})
    head = bench.head(
        "POST", CHAT, content_type="application/json", content_length=str(len(body)), expect="100-continue",
        connection="close",
    )  # fmt: skip
    with bench.line() as line:
        started = time.monotonic()
        line.socket.sendall(head)
        first = line.socket.recv(4096)
        spent = time.monotonic() - started
        check(first.startswith(b"HTTP/1.1 100 "), "100 Continue", repr(first[:200]))
        check(spent < STALL_SECONDS, f"it within {STALL_SECONDS} s", f"{spent:.2f} s")
        line.socket.sendall(body)
        expect_completion(parsed(first.partition(b"\r\n\r\n")[2] + received(line.socket)))


def _forty_megabytes(bench: Bench) -> None:
    expect_completion(bench.send("POST", CHAT, bench.chat_bytes({"padding": "A" * 40 * MEGABYTE}), JSON))


def _over_the_limit(bench: Bench) -> None:
    declared = bench.head(
        "POST", CHAT, content_type="application/json", content_length="99999999999", connection="close"
    )
    expect_error(bench.talk(declared), 413, code="request_too_large")
    piece = b"a" * MEGABYTE

    def pieces() -> Iterator[bytes]:
        for _ in range(bench.target.body_limit_mib * 1024 * 1024 // MEGABYTE + 1):
            yield piece

    expect_error(bench.send("POST", CHAT, pieces(), JSON), 413, code="request_too_large")


def _extreme_json(bench: Bench) -> None:
    start = b'{"model":' + json.dumps(bench.model()).encode() + b',"messages":'
    deep = start + b"[" * 10_000 + b"]" * 10_000 + b"}"
    digits = start + json.dumps(samples.HELLO).encode() + b',"seed":' + b"9" * MEGABYTE + b"}"
    for body in (deep, digits):
        expect_error(bench.send("POST", CHAT, body, JSON), 400)
    expect_completion(bench.chat())


def _model_last(bench: Bench) -> None:
    body = {"padding": "A" * 20 * MEGABYTE, "messages": list(samples.HELLO), "max_tokens": 2, "model": bench.model()}
    expect_completion(bench.post(CHAT, body))


CASES: Final = (
    # id, title, expected, check, needs
    Case("REQ-22", "chunked body", "200", _chunked, (Need.CHAT,)),
    Case("REQ-23", "Expect: 100-continue", "100 at once, then 200", _expect_continue, (Need.CHAT,)),
    Case("REQ-24", "body of 40 MB", "200", _forty_megabytes, (Need.CHAT,), is_large=True, time_factor=2),
    Case("REQ-25", "body over the limit, declared and chunked", "413 request_too_large", _over_the_limit,
         (Need.CHAT,), is_large=True, time_factor=2),
    Case("REQ-26", "JSON 10,000 deep, number of a million digits", "400, no crash", _extreme_json, (Need.CHAT,)),
    Case("REQ-27", "model behind 20 MB of other fields", "200", _model_last, (Need.CHAT,), is_large=True,
         time_factor=2),
)  # fmt: skip
