"""Acceptance 7.12, limits: what a caller with a limit of requests a minute sees."""

import time
from typing import Final

from aibrix_extproc.conformance import samples
from aibrix_extproc.conformance.bench import Bench
from aibrix_extproc.conformance.case import Case, Inapplicable, Need
from aibrix_extproc.conformance.cases.headers import DURATION
from aibrix_extproc.conformance.expect import check, expect_completion, expect_error
from aibrix_extproc.conformance.wire import Answer

MOST_REQUESTS: Final = 1200
LONGEST_WAIT_MS: Final = 5000


def _chat(bench: Bench) -> Answer:
    return bench.chat({"max_tokens": 1}, {"authorization": f"Bearer {bench.target.limited_key}"})


def _number(answer: Answer, name: str) -> int:
    text = answer.header(name)
    check(text.isdigit(), f"{name} as an integer", repr(text))
    return int(text)


def _headers(bench: Bench) -> None:
    answer = _chat(bench)
    check(answer.status in (200, 429), "a completion, or the 429 of a limit", answer)
    limit = _number(answer, "x-ratelimit-limit-requests")
    left = _number(answer, "x-ratelimit-remaining-requests")
    check(left < max(limit, 1), "fewer remaining requests than the limit", f"{left} of {limit}")
    reset = answer.header("x-ratelimit-reset-requests")
    check(reset and DURATION.fullmatch(reset), "x-ratelimit-reset-requests as a Go duration", repr(reset))


def _refusal(bench: Bench) -> None:
    for _ in range(MOST_REQUESTS):
        answer = _chat(bench)
        if answer.status == 429:
            break
        expect_completion(answer)
    else:
        raise Inapplicable(f"{MOST_REQUESTS} requests did not exhaust the limit")
    error = expect_error(answer, 429, code="rate_limit_exceeded", contains="Limit .*Used .*Requested .*try again in")
    check(error["type"] == "requests", "type requests", error["type"])
    ms = _number(answer, "retry-after-ms")
    seconds = _number(answer, "retry-after")
    check(seconds * 1000 >= ms > (seconds - 1) * 1000, "retry-after, rounded up", f"{seconds} and {ms}")
    if ms <= LONGEST_WAIT_MS:
        time.sleep(ms / 1000)
        again = _chat(bench)
        check(again.status == 200, "a completion after that time", again)
        made = bench.client(api_key=bench.target.limited_key, max_retries=3).chat.completions.create(
            model=bench.model(), messages=list(samples.HELLO), max_tokens=1
        )
        check(made.choices, "a completion by the SDK's own retry", made)


CASES = (
    Case("LIM-01", "a limited key, one chat", "x-ratelimit headers, fewer remaining than the limit", _headers,
         (Need.LIMITED_KEY, Need.CHAT)),
    Case("LIM-02", "one request too many", "429 rate_limit_exceeded, true retry-after, then a completion", _refusal,
         (Need.LIMITED_KEY, Need.CHAT), time_factor=4),
)  # fmt: skip
