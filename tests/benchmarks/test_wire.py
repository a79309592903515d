import json

import pytest

from benchmarks.wire import SMALL_BODY_BYTES, Reply, ReplyReader, chat_body, chat_request

PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nx-request-id: 1\r\n\r\nhello"
STREAMED = (
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    b"9\r\ndata: 1\n\n\r\n9\r\ndata: 2\n\n\r\ne\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"
)


@pytest.mark.parametrize("size", [SMALL_BODY_BYTES, 1500, 220_000])
@pytest.mark.parametrize("stream", [True, False])
def test_chat_body_is_valid_json_of_the_exact_size(size: int, stream: bool) -> None:
    body = chat_body(size, stream=stream)
    assert len(body) == size
    assert json.loads(body).get("stream", False) is stream


def test_chat_body_that_cannot_be_so_small_is_refused() -> None:
    with pytest.raises(ValueError, match="at least"):
        chat_body(10)


def test_chat_request_carries_the_fifteen_headers_of_the_sdk_beside_host_and_length() -> None:
    head, _, body = chat_request(b"{}").partition(b"\r\n\r\n")
    names = [line.partition(b":")[0].lower() for line in head.split(b"\r\n")[1:]]
    assert len(set(names) - {b"host", b"content-length"}) == 15
    assert body == b"{}"


@pytest.mark.parametrize("wire", [PLAIN, STREAMED], ids=["content-length", "chunked"])
def test_reply_cut_anywhere_is_complete_exactly_at_its_last_byte(wire: bytes) -> None:
    for cut in range(1, len(wire)):
        reader = ReplyReader()
        assert reader.feed(wire[:cut]) is None
        assert reader.feed(wire[cut:]) is not None


def test_reply_fed_byte_by_byte_is_complete_at_its_last_byte() -> None:
    reader = ReplyReader()
    replies = [reader.feed(STREAMED[i : i + 1]) for i in range(len(STREAMED))]
    assert [i for i, reply in enumerate(replies) if reply] == [len(STREAMED) - 1]


def test_reader_after_a_reply_reads_the_next_one() -> None:
    reader = ReplyReader()
    first, second = reader.feed(STREAMED), reader.feed(PLAIN)
    assert first is not None
    assert second is not None
    assert (first.events, second.events, second.body) == (3, 0, b"hello")


def test_reply_without_a_body_is_complete_with_its_head() -> None:
    reply = ReplyReader().feed(b"HTTP/1.1 503 Unavailable\r\ncontent-length: 0\r\n\r\n")
    assert reply is not None
    assert reply.problem(0) == "status 503: "


@pytest.mark.parametrize(
    ("reply", "expected", "problem"),
    [
        (Reply(200, b"{}", 0), 0, None),
        (Reply(200, b"data: 1\n\ndata: [DONE]\n\n", 2), 2, None),
        (Reply(429, b"slow down", 0), 0, "status 429: slow down"),
        (Reply(200, b"data: 1\n\n", 1), 2, "1 events instead of 2"),
        (Reply(200, b"data: 1\n\ndata: 2\n\n", 2), 2, "a stream without [DONE]"),
    ],
    ids=["whole", "whole stream", "error", "short stream", "stream without its end"],
)
def test_reply_that_is_not_whole_is_complained_of(reply: Reply, expected: int, problem: str | None) -> None:
    assert reply.problem(expected) == problem
