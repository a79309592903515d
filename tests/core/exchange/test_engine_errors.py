"""What of an engine's error besides its words counts: when to ask again, how its body is packed, whose SDK reads it."""

import gzip
import json
from typing import Any

import pytest

from aibrix_extproc.core.exchange.asks import Admitted
from aibrix_extproc.core.exchange.machine import Exchange
from aibrix_extproc.core.exchange.outputs import Continue, Immediate
from aibrix_extproc.core.exchange.policy import ExchangePolicy
from tests.build import CALLER, a_placed, a_request_body, a_request_head, a_response_body, a_response_head, an_exchange

ERROR = b'{"error":{"message":"The dice are broken.","type":"BadRequestError","param":null,"code":400}}'


def placed(**head: Any) -> Exchange:
    exchange = an_exchange()
    for event in (a_request_head(**head), Admitted(CALLER), a_request_body(), a_placed()):
        exchange.receive(event)
    return exchange


def rewritten(status: int, body: bytes, **headers: str) -> Continue:
    exchange = placed()
    exchange.receive(
        a_response_head(status, headers={name.replace("_", "-"): value for name, value in headers.items()})
    )
    (answer,) = exchange.receive(a_response_body(body))
    assert isinstance(answer, Continue)
    return answer


@pytest.mark.parametrize(
    ("status", "told", "after"),
    [(500, "7", "7"), (503, "7", "7"), (429, "20", "20"), (400, "3", "3"), (500, "later", None), (503, "later", "2")],
)
def test_retry_after_of_an_engine_counts_more_than_our_own(status: int, told: str, after: str | None) -> None:
    answer = rewritten(status, b"no", retry_after=told, retry_after_ms="1", x_should_retry="true")
    changed = [value for name, value in answer.set_headers if name == "retry-after"]
    assert changed == ([] if after is None else [after])
    assert {"retry-after-ms", "x-should-retry"} - set(answer.remove_headers) <= {name for name, _ in answer.set_headers}


def test_retry_after_of_an_error_without_a_body_is_kept() -> None:
    (answer,) = placed().receive(a_response_head(503, headers={"retry-after": "9"}, end_of_stream=True))
    assert isinstance(answer, Immediate)
    assert ("retry-after", "9") in answer.headers


def test_packed_error_is_read_and_told_unpacked() -> None:
    answer = rewritten(400, gzip.compress(ERROR), content_encoding="gzip")
    assert answer.body is not None
    assert json.loads(answer.body)["error"]["message"] == "The dice are broken."
    assert "content-encoding" in answer.remove_headers


def test_error_packed_in_a_way_that_we_do_not_know_is_told_by_its_status() -> None:
    answer = rewritten(400, b"\x0b\x02\x80" + ERROR, content_encoding="br")
    assert answer.body is not None
    assert json.loads(answer.body)["error"]["message"] == "The engine refused the request."
    assert "content-encoding" in answer.remove_headers


def test_error_that_comes_packed_as_a_success_is_told_as_one() -> None:
    exchange = placed()
    body = gzip.compress(b'{"error":{"message":"no","code":503}}')
    head = {"content-encoding": "gzip", "content-length": str(len(body)), "content-type": "application/json"}
    exchange.receive(a_response_head(200, headers=head))
    (answer,) = exchange.receive(a_response_body(body))
    assert isinstance(answer, Continue)
    assert dict(answer.set_headers)[":status"] == "503"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("POST", "/v1/messages/nope", 404), ("PUT", "/v1/messages", 405), ("GET", "/v1/messages/batches", 404),
     ("POST", "/v1/messages/../chat/completions", 404), ("DELETE", "//v1/messages/", 405)],
)  # fmt: skip
def test_everything_under_anthropics_path_is_refused_in_its_shape(method: str, path: str, status: int) -> None:
    exchange = an_exchange()
    exchange.receive(a_request_head(method=method, path=path))
    (answer,) = exchange.receive(Admitted(CALLER))
    assert isinstance(answer, Immediate)
    assert answer.status == status
    said = json.loads(answer.body)
    assert (said["type"], set(said)) == ("error", {"type", "error", "request_id"})
    assert set(said["error"]) == {"type", "message"}


@pytest.mark.parametrize("path", ["/v1/messagesx", "/v1/message", "/v2/messages", "/v1/messages%2Fx"])
def test_paths_beside_anthropics_are_refused_in_openais_shape(path: str) -> None:
    exchange = an_exchange()
    exchange.receive(a_request_head(path=path))
    (answer,) = exchange.receive(Admitted(CALLER))
    assert isinstance(answer, Immediate)
    assert set(json.loads(answer.body)) == {"error"}


@pytest.mark.parametrize(("limit", "refused"), [(5_000, True), (5_001, False)])
def test_audio_form_has_a_limit_of_its_own(limit: int, refused: bool) -> None:
    exchange = Exchange(ExchangePolicy(max_audio_bytes=limit))
    kind = "multipart/form-data; boundary=x"
    exchange.receive(a_request_head(path="/v1/audio/transcriptions", content_type=kind, content_length="5001"))
    (answer,) = exchange.receive(Admitted(CALLER))
    assert isinstance(answer, Immediate) is refused
    if isinstance(answer, Immediate):
        said = json.loads(answer.body)["error"]["message"]
        assert (answer.status, said) == (413, "413: Maximum content size limit (5000) exceeded (5001 bytes read)")
