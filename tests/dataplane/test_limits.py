"""Acceptance 7.12, LIM: limited callers through a real Envoy, with counters in a real Redis."""

import http.client
import json
import re
import time
from collections.abc import Iterator
from typing import Any, Final

import openai
import pytest

from aibrix_extproc.core.access.holders import digest_of
from aibrix_extproc.core.openai.contract.headers import RATE_LIMIT_HEADERS
from tests.dataplane.engines import EngineSpec, header
from tests.dataplane.raw import JSON, LOOPBACK, Answer
from tests.dataplane.stack import METERED, Stack, running
from tests.redis_server import RedisServer, redis_server
from tests.waiting import eventually

pytestmark = pytest.mark.slow

HELLO: Final = [{"role": "user", "content": "hello"}]
CHAT: Final = {"model": "chat-m", "messages": HELLO, "max_tokens": 5}
PATH: Final = "/v1/chat/completions"
CALLERS: Final[dict[str, dict[str, float]]] = {
    "free": {},
    "six": {"requests_per_minute": 600, "tokens_per_minute": 100_000},
    "few": {"requests_per_hour": 3},
    "soon": {"requests_per_minute": 40},
    "tokens": {"tokens_per_hour": 2000},
    "refunded": {"requests_per_hour": 5, "tokens_per_hour": 5000},
    "left": {"tokens_per_hour": 100_000},
    "two": {"concurrent_requests": 2},
    "poor": {"budget_per_month": 0.01},
    "lost": {"requests_per_hour": 50},
    "claude": {"requests_per_minute": 600, "output_tokens_per_minute": 10_000},
}
DURATION: Final = re.compile(r"(\d+h)?(\d+m)?(\d+(\.\d+)?s)?|\d+ms")


def key_of(caller: str) -> str:
    return f"sk-limited-{caller}-0123456789abcdef"


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture(scope="module")
def limited(redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("limits")
    lines = ["callers:"]
    for name, limits in CALLERS.items():
        digest = digest_of(key_of(name)).hex()
        lines += [f"- name: {name}", f"  keys: [{{hash: 'sha256:{digest}', id: k_{name}}}]"]
        lines += [f"  limits: {{{', '.join(f'{one}: {amount}' for one, amount in limits.items())}}}"] if limits else []
    (folder / "keys.yaml").write_text("\n".join(lines) + "\n")
    (folder / "limits.yaml").write_text("prices: [{model: '*', prices: {input_tokens: 10, output_tokens: 1000}}]\n")
    arguments = (
        "--metering", "--key-file", str(folder / "keys.yaml"), "--limits", str(folder / "limits.yaml"),
        "--redis", redis.url, "--redis-timeout-ms", "1000",
    )  # fmt: skip
    fleet = (EngineSpec("chat", ("chat-m",), ("--itl-ms", "20")),)
    keys = (key_of("free"),)
    stack = Stack(folder, fleet, api_keys=keys, serve_arguments=arguments, envoy_options=METERED)
    with running(stack) as started:
        eventually(lambda: not report(started)["away"], "Redis is used")
        yield started


def report(stack: Stack) -> dict[str, Any]:
    found: dict[str, Any] = stack.worker.admin("/readyz").json()["limits"]
    return found


def post(stack: Stack, caller: str, path: str = PATH, **changes: Any) -> Answer:
    return stack.post(path, {**CHAT, **changes}, authorization=f"Bearer {key_of(caller)}")


def remaining(answer: Answer, what: str = "tokens") -> int:
    text = answer.header(f"x-ratelimit-remaining-{what}")
    assert text is not None, answer
    return int(text)


def test_lim_01_six_headers_on_every_answer_of_a_limited_caller(limited: Stack) -> None:
    answer = post(limited, "six")
    assert answer.status == 200
    assert {name for name, _ in answer.headers if name.startswith("x-ratelimit")} == set(RATE_LIMIT_HEADERS)
    assert answer.header("x-ratelimit-limit-requests") == "600"
    assert answer.header("x-ratelimit-remaining-requests") == "599"
    assert answer.header("x-ratelimit-limit-tokens") == "100000"
    assert all(DURATION.fullmatch(str(answer.header(f"x-ratelimit-reset-{what}"))) for what in ("requests", "tokens"))
    for other in (
        post(limited, "six", stream=True),
        post(limited, "six", model="unknown"),
        limited.send("POST", PATH, b"{", {**JSON, "authorization": f"Bearer {key_of('six')}"}),
        limited.send("GET", "/v1/models", headers={"authorization": f"Bearer {key_of('six')}"}),
        limited.send("GET", "/v1/nothing", headers={"authorization": f"Bearer {key_of('six')}"}),
    ):
        assert set(RATE_LIMIT_HEADERS) <= {name for name, _ in other.headers}, other
        assert remaining(other, "requests") <= 600


def test_lim_02_the_request_after_the_last_is_refused_and_the_sdks_retry_succeeds(limited: Stack) -> None:
    for _ in range(200):
        answer = post(limited, "soon")
        if answer.status == 429:
            break
    assert answer.status == 429
    error = answer.json()["error"]
    assert (error["type"], error["code"]) == ("requests", "rate_limit_exceeded")
    assert "on requests per min (RPM): Limit 40, Used 40, Requested 1. Please try again in" in error["message"]
    assert remaining(answer, "requests") == 0
    ms = int(str(answer.header("retry-after-ms")))
    assert 0 < ms <= 1500
    assert answer.header("retry-after") in ("1", "2")
    time.sleep(ms / 1000)  # the time itself is what is tested
    assert post(limited, "soon").status == 200
    with limited.client(api_key=key_of("soon"), max_retries=2) as client:
        assert client.chat.completions.create(model="chat-m", messages=HELLO, max_tokens=2).choices


def test_a_long_wait_is_told_and_not_tried_again(limited: Stack) -> None:
    assert [post(limited, "few").status for _ in range(4)] == [200, 200, 200, 429]
    with limited.client(api_key=key_of("few"), max_retries=2) as client, pytest.raises(openai.RateLimitError) as raised:
        client.chat.completions.create(model="chat-m", messages=HELLO)
    assert raised.value.response.headers["x-should-retry"] == "false"
    assert raised.value.response.headers["retry-after"] == "60"
    assert re.search(r"Please try again in (20m0|19m\d+(\.\d+)?)s", str(raised.value))


def test_a_request_too_many_is_refused_before_its_body_comes(limited: Stack) -> None:
    assert post(limited, "few").status == 429
    connection = http.client.HTTPConnection(LOOPBACK, limited.port, timeout=60)
    try:
        connection.putrequest("POST", PATH)
        for name, value in (JSON | {"authorization": f"Bearer {key_of('few')}", "content-length": "1000000"}).items():
            connection.putheader(name, value)
        connection.endheaders()  # and no body
        answer = connection.getresponse()
        assert answer.status == 429
        assert json.loads(answer.read())["error"]["code"] == "rate_limit_exceeded"
        assert answer.getheader("x-ratelimit-remaining-requests") == "0"
    finally:
        connection.close()


def test_lim_03_tokens_that_are_not_there_never_reach_an_engine(limited: Stack) -> None:
    assert post(limited, "tokens", max_tokens=4, messages=[{"role": "user", "content": "word " * 1100}]).status == 200
    engine = limited.engine("chat")
    eventually(lambda: remaining(post(limited, "tokens", max_tokens=1)) < 1400, "what it used is settled")
    engine.forget()  # it remembers so many requests only, those that poll it among them
    answer = post(limited, "tokens", max_tokens=1500)
    assert answer.status == 429
    assert answer.json()["error"]["type"] == "tokens"
    assert re.search(
        r"Limit 2000, Used \d+, Requested 15\d\d\. Please try again in ", answer.json()["error"]["message"]
    )
    assert engine.requests(PATH) == []


def test_lim_04_a_request_that_never_fits_is_told_so(limited: Stack) -> None:
    answer = post(limited, "tokens", max_tokens=3000)
    assert answer.status == 400
    assert answer.header("x-should-retry") == "false"
    assert "can never pass" in answer.json()["error"]["message"]
    assert answer.header("x-ratelimit-limit-tokens") == "2000"


def test_lim_05_a_stream_that_was_left_is_settled_to_what_it_produced(limited: Stack) -> None:
    full = remaining(post(limited, "left", max_tokens=1))
    with limited.client(api_key=key_of("left")) as client:
        stream = client.chat.completions.create(model="chat-m", messages=HELLO, max_tokens=5_000, stream=True)
        next(iter(stream))
        stream.close()
    eventually(lambda: remaining(post(limited, "left", max_tokens=1)) > full - 3000, "the reservation is settled")


def test_lim_06_a_failure_before_the_first_byte_is_refunded(limited: Stack) -> None:
    first = post(limited, "refunded", max_tokens=1)
    tokens = remaining(first)
    limited.engine("chat").fail("status", code=500, path=PATH)
    try:
        assert post(limited, "refunded", max_tokens=2000).status == 500
    finally:
        limited.engine("chat").recover()
    found = eventually(
        lambda: next((one for one in [post(limited, "refunded", max_tokens=1)] if remaining(one) > tokens - 500), None),
        "the reservation is refunded",
    )
    assert found.status in (200, 429)


def test_lim_07_streams_at_once_are_limited_and_freed_when_they_end(limited: Stack) -> None:
    with limited.client(api_key=key_of("two")) as client:
        streams = [
            client.chat.completions.create(model="chat-m", messages=HELLO, max_tokens=5_000, stream=True)
            for _ in range(2)
        ]
        refused = post(limited, "two")
        assert refused.status == 429
        assert "concurrent requests: Limit 2, Used 2" in refused.json()["error"]["message"]
        for stream in streams:
            stream.close()
    eventually(lambda: post(limited, "two").status == 200, "the streams have ended")


def test_lim_11_a_budget_that_is_used_up_is_a_quota(limited: Stack) -> None:
    assert post(limited, "poor", max_tokens=5).status == 200
    answer = eventually(
        lambda: next((one for one in [post(limited, "poor", max_tokens=4)] if one.status == 429), None), "it is used up"
    )
    assert answer.json()["error"]["code"] == answer.json()["error"]["type"] == "insufficient_quota"
    assert answer.header("x-should-retry") == "false"


def test_lim_12_anthropics_operations_have_anthropics_headers(limited: Stack) -> None:
    answer = post(limited, "claude", "/v1/messages")
    assert answer.status == 200
    assert answer.header("anthropic-ratelimit-requests-limit") == "600"
    assert answer.header("anthropic-ratelimit-output-tokens-remaining") == "9995"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", str(answer.header("anthropic-ratelimit-requests-reset")))
    assert not answer.all("x-ratelimit-limit-requests")


def test_lim_13_a_clients_own_headers_have_no_effect(limited: Stack) -> None:
    marked = {"x_ratelimit_remaining_requests": "9999", "x_marker": "forged"}
    answer = limited.post(PATH, CHAT, authorization=f"Bearer {key_of('six')}", **marked)
    assert remaining(answer, "requests") <= 600
    seen = limited.engine("chat").request("forged")
    assert seen is not None
    assert header(seen, "x-ratelimit-remaining-requests") is None


def test_lim_14_callers_without_limits_have_no_such_headers(limited: Stack) -> None:
    answer = post(limited, "free")
    assert answer.status == 200
    assert [name for name, _ in answer.headers if "ratelimit" in name] == []


def test_limits_are_counted_in_redis(limited: Stack, redis: RedisServer) -> None:
    assert post(limited, "lost").status == 200
    assert redis.ask("KEYS", "*c=lost*").startswith(b"*1\r\n")


def test_lim_10_redis_is_killed_and_comes_back_and_nobody_gets_more(limited: Stack, redis: RedisServer) -> None:
    """Last in this module, because it empties all counters."""
    left = remaining(post(limited, "lost"), "requests")
    redis.stop()
    eventually(lambda: report(limited)["away"], "the outage is visible")
    assert limited.worker.total("aibrix_extproc_limits_redis_ok") == 0
    alone = post(limited, "lost")
    assert (alone.status, remaining(alone, "requests")) == (200, left - 1)
    redis.start()
    eventually(lambda: not report(limited)["away"], "Redis is used again")
    again = post(limited, "lost")
    assert (again.status, remaining(again, "requests")) == (200, left - 2)
