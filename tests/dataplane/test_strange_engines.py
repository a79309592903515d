"""Answers that no engine should give, through the whole stack: an error in shape or an exception, never a success."""

import json
from collections.abc import Iterator
from typing import Any, Final

import openai
import pytest

from tests.dataplane.engines import EngineSpec
from tests.dataplane.openai_error import assert_openai_error
from tests.dataplane.raw import JSON, Answer, conversation
from tests.dataplane.scripted import scripted
from tests.dataplane.stack import METERED, Stack, running

pytestmark = pytest.mark.slow

PATH: Final = "/v1/chat/completions"
CHAT: Final[dict[str, Any]] = {"model": "odd-m", "messages": [{"role": "user", "content": "hello"}]}
LONG: Final = "x" * 10_000_000
KEY: Final = "sk-odd-0123456789abcdefgh"


def plain(status: str, kind: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
    return head.encode() + body


def chunked(kind: str, *pieces: bytes, trailers: bytes = b"") -> bytes:
    head = f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n".encode()
    return head + b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in pieces) + b"0\r\n" + trailers + b"\r\n"


def chunk(text: str | None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None if text else "stop"}
    value = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "odd-m", "choices": [choice], **more}
    return b"data: " + json.dumps(value).encode() + b"\n\n"


SSE: Final = "text/event-stream"
REFUSAL: Final = {"error": {"message": "n must be at least 1.", "type": "BadRequestError", "param": "n", "code": 400}}
DONE: Final = b"data: [DONE]\n\n"
MESSAGE: Final = {"role": "assistant", "content": "hi"}
GOOD: Final = {
    "id": "c", "object": "chat.completion", "created": 1, "model": "odd-m",
    "choices": [{"index": 0, "message": MESSAGE, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}  # fmt: skip
HALF: Final = GOOD | {"id": "chatcmpl-1", "choices": [{"index": 0, "message": MESSAGE, "finish_reason": "abort"}]}
LONG_ANSWER: Final = GOOD | {"id": "chatcmpl-1", "padding": "x" * 250_000}  # nearly as long as the filter looks at
SCRIPTS: Final = {
    "html": plain("200 OK", "text/html", b"<html><body>Welcome to the proxy</body></html>"),
    "html-in-chunks": chunked("text/html; charset=utf-8", b"<html>", b"</html>"),
    "empty": plain("200 OK", "application/json", b""),
    "empty-stream": plain("200 OK", SSE, b""),
    "empty-stream-in-chunks": chunked(SSE),
    "empty-in-chunks": chunked("application/json"),
    "error": plain("200 OK", "application/json", json.dumps(REFUSAL).encode()),
    "long-error": plain("200 OK", "application/json", json.dumps(REFUSAL | {"details": "x" * 5000}).encode()),
    "half-an-answer": plain("200 OK", "application/json", json.dumps(HALF).encode()),
    "long-answer": plain("200 OK", "application/json", json.dumps(LONG_ANSWER).encode()),
    "error-500": plain("500 Oops", "application/json", b'{"error":"Traceback in /usr/lib/core.py"}'),
    "error-with-trailers": chunked("application/json", json.dumps(REFUSAL).encode(), trailers=b"x-checksum: 1\r\n")
    .replace(b"200 OK", b"400 Bad Request"),
    "with-trailers": chunked("application/json", json.dumps(GOOD).encode(), trailers=b"x-checksum: 1\r\n"),
    "stream-with-trailers": chunked(SSE, chunk("hi"), chunk(None), DONE, trailers=b"x-checksum: 1\r\n"),
    "long-line": chunked(SSE, chunk("hi"), chunk(LONG), chunk(None), DONE),
    "endless-line": chunked(SSE, b"data: " + LONG.encode()),
    "nothing": b"",
    "nonsense": b"What do you want?\r\n\r\n",
}  # fmt: skip


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack with a good engine and one that answers by script."""
    stack = Stack(
        tmp_path_factory.mktemp("odd"),
        (EngineSpec("good", ("good-m",)),),
        api_keys=(KEY,),
        serve_arguments=("--metering",),
        envoy_options=METERED,
    )
    with scripted(SCRIPTS) as port, running(stack) as started:
        started.adopt_engine(EngineSpec("odd", ("odd-m",)), port)
        started.write_fleet()
        started.wait_models({"good-m", "odd-m"})
        yield started
        assert started.worker.total("aibrix_extproc_internal_errors_total") == 0


def ask(stack: Stack, script: str, **fields: Any) -> Answer:
    return stack.post(PATH, CHAT | fields, x_script=script)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("script", ["html", "html-in-chunks", "empty", "empty-stream", "nonsense"])
def test_a_success_without_an_answer_is_a_bad_gateway(odd: Stack, script: str, stream: bool) -> None:
    error = assert_openai_error(ask(odd, script, stream=stream), 502, code="bad_gateway")
    assert "Welcome" not in error["message"]


def test_an_engine_that_hangs_up_is_told_as_such(odd: Stack) -> None:
    assert_openai_error(ask(odd, "nothing"), 503)


@pytest.mark.parametrize("script", ["error", "long-error", "error-with-trailers"])
def test_an_error_is_told_as_one_whatever_its_status_and_framing(odd: Stack, script: str) -> None:
    assert_openai_error(ask(odd, script), 400, code="invalid_value", param="n")
    with odd.client() as client, pytest.raises(openai.BadRequestError):
        client.chat.completions.create(**CHAT, extra_headers={"x-script": script})


def test_err_16_an_answer_that_every_candidate_broke_off_is_a_503(odd: Stack) -> None:
    assert_openai_error(ask(odd, "half-an-answer"), 503, code="model_not_ready")


def test_a_long_answer_passes_whole(odd: Stack) -> None:
    assert ask(odd, "long-answer").json() == LONG_ANSWER


def test_an_error_of_the_engine_stays_one(odd: Stack) -> None:
    assert_openai_error(ask(odd, "error-500"), 500)


def test_a_success_that_turns_out_empty_raises_in_the_sdk(odd: Stack) -> None:
    with odd.client() as client:
        with pytest.raises((openai.APIError, json.JSONDecodeError)):
            client.chat.completions.create(**CHAT, extra_headers={"x-script": "empty-in-chunks"})
        with pytest.raises(openai.APIError):
            list(client.chat.completions.create(
                **CHAT, stream=True, extra_headers={"x-script": "empty-stream-in-chunks"}
            ))  # fmt: skip


def test_trailers_of_an_engine_do_no_harm(odd: Stack) -> None:
    assert ask(odd, "with-trailers").json() == GOOD
    body = ask(odd, "stream-with-trailers", stream=True).body
    assert body == chunk("hi") + chunk(None) + DONE


def test_trailers_of_a_client_do_no_harm(odd: Stack) -> None:
    body = json.dumps(CHAT).encode()
    head = f"POST {PATH} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\nx-script: with-trailers\r\n"
    head += "content-type: application/json\r\ntransfer-encoding: chunked\r\nconnection: close\r\ntrailer: x-a\r\n\r\n"
    sent = head.encode() + b"%x\r\n%b\r\n0\r\nx-a: 1\r\nx-gateway-destination-endpoint: 10.0.0.1:1\r\n\r\n"
    answer = conversation(odd.port, sent % (len(body), body))
    assert answer.startswith(b"HTTP/1.1 200 "), answer[:300]


def test_a_line_of_ten_megabytes_passes_whole_and_is_not_held(odd: Stack) -> None:
    with odd.client() as client:
        chunks = list(client.chat.completions.create(**CHAT, stream=True, extra_headers={"x-script": "long-line"}))
    assert [len(one.choices[0].delta.content or "") for one in chunks] == [2, len(LONG), 0]


def test_a_line_of_ten_megabytes_without_an_end_raises(odd: Stack) -> None:
    with odd.client() as client, pytest.raises((openai.APIError, json.JSONDecodeError)):
        list(client.chat.completions.create(**CHAT, stream=True, extra_headers={"x-script": "endless-line"}))


def test_the_gateway_is_well_after_all_that(odd: Stack) -> None:
    assert odd.post(PATH, CHAT | {"model": "good-m"}).status == 200
    answer = odd.send("POST", PATH, json.dumps(CHAT | {"model": "good-m"}).encode(), JSON)
    assert answer.json()["object"] == "chat.completion"
