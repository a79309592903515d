"""Event streams in every spelling, cut at every byte."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.oracles.sse import Ending, SseEvent, SseParser


def events_of(*chunks: bytes, max_event_bytes: int = 10_000) -> list[SseEvent]:
    parser = SseParser(max_event_bytes)
    found = [event for chunk in chunks for event in parser.feed(chunk)]
    return found + parser.finish()


A, B = SseEvent("a"), SseEvent("b")
BOM = b"\xef\xbb\xbf"


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        pytest.param(b"data: a\n\ndata: b\n\n", [A, B], id="plain"),
        pytest.param(b"data: a\r\n\r\ndata: b\r\n\r\n", [A, B], id="CRLF"),
        pytest.param(b"data: a\r\rdata: b\r\r", [A, B], id="CR only"),
        pytest.param(b"data: a\r\n\ndata: b\n\r\n", [A, B], id="mixed line ends"),
        pytest.param(b"data:a\n\n", [A], id="no space"),
        pytest.param(b"data:  a\n\n", [SseEvent(" a")], id="two spaces"),
        pytest.param(b"data: a\ndata: b\n\n", [SseEvent("a\nb")], id="two data lines"),
        pytest.param(b"data: a\ndata\ndata:\n\n", [SseEvent("a\n\n")], id="data without colon or value"),
        pytest.param(b"data:\n\n", [SseEvent("")], id="empty data"),
        pytest.param(b": hello\n\n:\n\ndata: a\n: x\n\n", [A], id="comments"),
        pytest.param(b"event: ping\n\ndata: a\n\n", [A], id="a name without data is no event and does not stick"),
        pytest.param(b"event: ping\ndata: a\n\n", [SseEvent("a", "ping")], id="name"),
        pytest.param(b"data: a\nevent:x\nevent: y\n\n", [SseEvent("a", "y")], id="last name wins"),
        pytest.param(b"retry: 3000\n\nid: 1\ndata: a\n\nid: 2\n\n", [A], id="id and retry"),
        pytest.param(b"dat: x\ndata : y\nfoo\n data: z\ndata: a\n\n", [A], id="unknown fields"),
        pytest.param(BOM + b"data: a\n\n", [A], id="BOM"),
        pytest.param(BOM + b"\ndata: a\n\n", [A], id="BOM on a line of its own"),
        pytest.param(b"data: a\n\n" + BOM + b"data: b\n\ndata: b\n\n", [A, B], id="BOM later is no BOM"),
        pytest.param(b"\n\n\ndata: a\n\n\n\n", [A], id="extra blank lines"),
        pytest.param("data: é€😀\n\n".encode(), [SseEvent("é€😀")], id="UTF-8"),
        pytest.param(b"data: \xff\n\n", [SseEvent("\ufffd")], id="bad UTF-8"),
        pytest.param(b"data: a: b\n\n", [SseEvent("a: b")], id="colons in the data"),
        pytest.param(b"data: [DONE]\n\n", [SseEvent("[DONE]")], id="done"),
        pytest.param(b"data: a", [SseEvent("a", "", Ending.UNTERMINATED)], id="cut in a line"),
        pytest.param(b"data: a\n", [SseEvent("a", "", Ending.UNTERMINATED)], id="cut before the blank line"),
        pytest.param(b"event: x\ndata: a\r\n", [SseEvent("a", "x", Ending.UNTERMINATED)], id="cut with CRLF"),
        pytest.param(b"data: a\n\nevent: x\n", [A], id="cut without data"),
        pytest.param(b"data: a\n\n: bye", [A], id="cut in a comment"),
        pytest.param(b"", [], id="nothing"),
        pytest.param(BOM, [], id="only a BOM"),
    ],
)
def test_stream_is_parsed_alike_wherever_it_is_cut(stream: bytes, expected: list[SseEvent]) -> None:
    assert events_of(stream) == expected
    assert events_of(*(stream[at : at + 1] for at in range(len(stream)))) == expected
    for at in range(len(stream) + 1):
        assert events_of(stream[:at], b"", stream[at:]) == expected


def test_event_is_given_as_soon_as_its_blank_line_is_there() -> None:
    parser = SseParser()
    assert parser.feed(b"data: a\r\n\r") == [A]
    assert parser.feed(b"\ndata: b\n") == []
    assert parser.feed(b"\n") == [B]
    assert parser.finish() == []


def test_event_over_the_limit_is_reported_without_its_data_and_the_next_one_is_whole() -> None:
    stream = b"event: big\ndata: " + b"x" * 50 + b"\ndata: y\n\ndata: a\n\n"
    for size in (1, 3, 7, 1000):
        chunks = [stream[at : at + size] for at in range(0, len(stream), size)]
        assert events_of(*chunks, max_event_bytes=40) == [SseEvent("", "big", Ending.OVERSIZED), A]


def test_event_at_the_limit_is_whole() -> None:
    assert events_of(b"data: abcd\n\n", max_event_bytes=10) == [SseEvent("abcd")]
    assert events_of(b"data: abcde\n\n", max_event_bytes=10) == [SseEvent("", "", Ending.OVERSIZED)]


def test_line_over_the_limit_that_never_ends_is_not_kept() -> None:
    parser = SseParser(max_event_bytes=100)
    for _ in range(1000):
        assert parser.feed(b"x" * 1000) == []
    assert sum(map(len, parser._pieces)) <= 100
    assert parser.finish() == [SseEvent("", "", Ending.OVERSIZED)]


wire = st.lists(
    st.sampled_from(
        [b"data: a", b"data:", b"data", b"event: x", b": c", b"id: 1", b"\n", b"\r", b"\r\n", BOM, "é€".encode()]
    )
    | st.binary(max_size=6),
    max_size=30,
).map(b"".join)


@given(wire, st.lists(st.integers(0, 200), max_size=6), st.sampled_from([8, 20, 10_000]))
def test_any_stream_gives_the_same_events_whatever_the_cuts(stream: bytes, cuts: list[int], limit: int) -> None:
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    chunks = [stream[begin:end] for begin, end in itertools.pairwise(places)]
    assert events_of(*chunks, max_event_bytes=limit) == events_of(stream, max_event_bytes=limit)
