"""What is good passes byte by byte, whatever the cut, and its usage is known."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lupa import lua51, luajit21

from aibrix_extproc.adapters.envoyproxy.spec import STREAM_FILTER
from tests.lua import driver
from tests.lua.driver import cut, cut_at, send
from tests.lua.streams import CHAT, CHAT_WITH_USAGE, COUNTED, DONE, GOOD, TYPED, chunk, data, typed, typed_end
from tests.oracles.usage import usage_from_json

ENDINGS = {"lf": b"\n", "crlf": b"\r\n", "cr": b"\r"}
each_good = pytest.mark.parametrize(("kind", "body", "report"), GOOD.values(), ids=GOOD)
each_line_end = pytest.mark.parametrize("line_end", ENDINGS.values(), ids=ENDINGS)


@each_line_end
@each_good
def test_good_stream_passes_at_every_size_of_pieces(
    kind: str, body: bytes, report: dict[str, Any], line_end: bytes
) -> None:
    body = body.replace(b"\n", line_end)
    for size in (1, 2, 3, 5, 7, 64, 1000, len(body)):
        passed = send(cut(body, size), stream=kind)
        assert passed.body == body
        assert passed.metadata == report


def test_time_from_the_head_to_the_first_bytes_is_reported() -> None:
    assert send([b"", b"", CHAT, b""]).first_seconds == 0.75  # Envoy gives empty chunks, too
    assert send([CHAT, b""]).first_seconds == 0.25
    assert send([b"{}"], content_type="application/json").first_seconds is None


@each_line_end
@each_good
def test_good_stream_passes_at_every_single_cut(
    kind: str, body: bytes, report: dict[str, Any], line_end: bytes
) -> None:
    body = body.replace(b"\n", line_end)
    for place in range(len(body)):
        passed = send([body[:place], body[place:]], stream=kind)
        assert passed.body == body
        assert passed.metadata == report


@given(kind=st.sampled_from(sorted(GOOD)), places=st.lists(st.integers(0, 5000), max_size=40))
def test_good_stream_passes_at_any_cuts(kind: str, places: list[int]) -> None:
    stream, body, report = GOOD[kind]
    passed = send(cut_at(body, places), stream=stream)
    assert passed.body == body
    assert passed.metadata == report


@given(places=st.lists(st.integers(0, 5000), max_size=40))
def test_whole_events_are_never_held_back(places: list[int]) -> None:
    pieces = cut_at(CHAT_WITH_USAGE, places)
    passed = send(pieces)
    got = given_so_far = b""
    for piece, out in zip(pieces, passed.pieces, strict=True):
        given_so_far, got = given_so_far + piece, got + out
        whole = given_so_far.rfind(b"\n\n") + 2 if b"\n\n" in given_so_far else 0
        assert got == given_so_far[:whole]


@pytest.mark.parametrize(
    ("changes", "report"),
    [
        ({"metadata": False}, {}),
        ({"stream": ""}, {"unmetered": "not_json"}),
        ({"stream": "none"}, {"unmetered": "not_json"}),
        ({"notes": {}}, {"unmetered": "not_json"}),
        ({"status": "404"}, {}),
        ({"headers": {"content-encoding": "gzip"}}, {"unmetered": "encoded"}),
        ({"content_type": "text/plain"}, {"unmetered": "not_json"}),
        ({"content_type": "application/octet-stream"}, {"unmetered": "not_json"}),
    ],
    ids=str,
)
def test_what_is_no_stream_of_ours_is_not_looked_at(changes: dict[str, Any], report: dict[str, Any]) -> None:
    body = b'data: {"error": {"code": 500}}\r\n\r\nretry: 1\n\nno more'
    passed = send(cut(body, 9), headers={"content-length": "1", **changes.pop("headers", {})}, **changes)
    assert passed.body == body
    assert passed.metadata == report
    assert passed.headers["content-length"] == "1"


def test_a_stream_loses_its_length_because_events_may_come_or_go() -> None:
    assert "content-length" not in send([CHAT], headers={"content-length": "1"}).headers


@pytest.mark.parametrize("size", [100, 1000, 16_384, 70_000, 1_000_000])
def test_an_event_of_any_size_passes_and_ends_where_it_ends(size: int) -> None:
    output = [{"type": "message", "content": [{"text": "x" * 200_000}]}]
    body = TYPED.replace(typed_end(), typed_end(output=output))
    passed = send(cut(body, size), stream="typed")
    assert passed.body == body
    assert passed.metadata == COUNTED | {"terminal": True}
    large = chunk("y" * 200_000)
    passed = send(cut(large * 2 + CHAT_WITH_USAGE, size), hide=True)
    assert passed.body == large * 2 + CHAT_WITH_USAGE.replace(_usage_event(), b"")
    assert passed.metadata == COUNTED | {"terminal": True}


def _usage_event() -> bytes:
    return next(one + b"\n\n" for one in CHAT_WITH_USAGE.split(b"\n\n") if b'"choices":[],' in one)


def test_memory_for_an_event_that_never_ends_is_bounded() -> None:
    held = 0
    pieces = [b"x" * 10_000] * 50
    passed = send([b"data: ", *pieces], ending="reset")
    for piece, out in zip([b"data: ", *pieces], passed.pieces, strict=True):
        held += len(piece) - len(out)
        assert held <= 65_536


@pytest.mark.parametrize("line_end", ENDINGS.values(), ids=ENDINGS)
@pytest.mark.parametrize(("kind", "body", "report"), GOOD.values(), ids=GOOD)
def test_lines_that_break_sdks_are_taken_out_of_events(
    kind: str, body: bytes, report: dict[str, Any], line_end: bytes
) -> None:
    """An `id:` or `retry:` before the data, or behind it; comments stay."""
    whole = [one + b"\n\n" for one in body.split(b"\n\n") if b"data:" in one]
    before = b"".join(b"id: 7\nretry: 3000\n: note\n" + one for one in whole)
    behind = b"".join(one[:-1] + b"id: 7\nretry:3000\nfoo\n: note\n\n" for one in whole)
    for sent, clean in (
        (before, b"".join(b": note\n" + one for one in whole)),
        (behind, b"".join(one[:-1] + b": note\n\n" for one in whole)),
    ):
        for size in (1, 7, 100_000):
            passed = send(cut(sent.replace(b"\n", line_end), size), stream=kind)
            assert passed.body == clean.replace(b"\n", line_end)
            assert passed.metadata == report


@pytest.mark.parametrize("order", ["type first", "type last", "number first", "number last"])
@pytest.mark.parametrize("size", [100, 16_384, 1_000_000])
def test_a_large_last_event_without_its_name_is_recognised(order: str, size: int) -> None:
    large = {"output": [{"content": [{"text": "x" * 200_000, "usage": {"input_tokens": 999}}]}], "usage": {
        "input_tokens": 11, "input_tokens_details": {"cached_tokens": 8}, "output_tokens": 3, "total_tokens": 14,
    }}  # fmt: skip
    name, number = {"type": "response.completed"}, {"sequence_number": 8}
    event = {
        "type first": name | number | {"response": large}, "number first": number | name | {"response": large},
        "type last": {"response": large} | number | name, "number last": {"response": large} | name | number,
    }[order]  # fmt: skip
    body = TYPED.replace(typed_end(), data(event))
    passed = send(cut(body, size), stream="typed")
    assert passed.body == body
    assert passed.metadata == COUNTED | {"terminal": True}


@pytest.mark.parametrize("block", [b"retry: 3000\n\n", b"event: ping\n\n", b"id: 1\n\n", b"data: \n\n", b"data\n\n"])
def test_blocks_that_break_sdks_are_taken_out(block: bytes) -> None:
    for size in (1, 4, 10_000):
        assert send(cut(block + CHAT + block, size)).body == CHAT


def test_a_byte_order_mark_is_taken_out() -> None:
    assert send([b"\xef\xbb\xbf" + CHAT]).body == CHAT
    assert send(cut(b"\xef\xbb\xbf" + CHAT, 1)).body == CHAT


def test_comments_and_blank_lines_pass() -> None:
    body = b"\n: keep-alive\n\n\r\n:\n\n" + CHAT + b": bye\n\n\n"
    for size in (1, 3, 10_000):
        assert send(cut(body, size)).body == body


def test_spaces_and_the_order_of_members_do_not_matter() -> None:
    event = b'data:{ "usage" : {"total_tokens" : 5 ,"prompt_tokens": 3, "completion_tokens":2 } , "choices" : [ ] }\n\n'
    passed = send([event + DONE], hide=True)
    assert passed.body == DONE
    assert passed.metadata == {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5, "terminal": True}


@pytest.mark.parametrize("line", [b"data: not json\n\n", b'data: {"choices":[}\n\n', b'data: {"usage":\n\n', b"x\n\n"])
def test_what_cannot_be_read_passes_or_is_no_event(line: bytes) -> None:
    passed = send([chunk("a"), line, DONE])
    assert passed.body == chunk("a") + (b"" if line == b"x\n\n" else line) + DONE


def test_trailers_and_resets_do_not_disturb() -> None:
    assert send(cut(CHAT, 100), ending="trailers").metadata == {"terminal": True}
    passed = send([CHAT_WITH_USAGE[:-8]], ending="reset")
    assert passed.progress["events"] == 2
    assert passed.metadata == COUNTED | {"terminal": False}
    assert CHAT_WITH_USAGE.startswith(passed.body)


def test_counts_in_every_chunk_are_reported_now_and_then_and_in_the_end() -> None:
    chunks = [
        chunk("x", usage={"prompt_tokens": 3, "completion_tokens": n, "total_tokens": n + 3}) for n in range(1, 101)
    ]
    whole = send([*chunks, DONE])
    assert whole.body == b"".join(chunks) + DONE
    assert whole.metadata == {"input_tokens": 3, "output_tokens": 100, "total_tokens": 103, "terminal": True}
    assert whole.writes < 50
    left = send(chunks, ending="reset")
    assert 84 < left.metadata["output_tokens"] <= 100


@pytest.mark.parametrize("size", [30, 250, 1000])
def test_stream_that_is_cut_tells_how_many_events_there_were_and_their_bytes(size: int) -> None:
    chunks = [chunk(f"word{n:04}") for n in range(300)]
    left = send(cut(b"".join(chunks), size), ending="reset")
    events, of_these = left.progress["events"], left.progress["event_bytes"]
    assert 60 < events <= 300
    assert of_these / events == pytest.approx(len(chunks[0]), rel=0.01)
    whole = send([*chunks, DONE])
    assert (whole.metadata, whole.progress) == ({"terminal": True}, {})


def test_usage_that_only_the_gateway_asked_for_is_hidden_at_every_cut() -> None:
    nulls = CHAT.replace(b"}]}\n\n", b'}],"usage":null}\n\n')
    body = nulls.replace(DONE, _usage_event() + DONE)
    for size in range(1, 40):
        passed = send(cut(body, size), hide=True)
        assert passed.body == CHAT
        assert passed.metadata == COUNTED | {"terminal": True}


@each_line_end
def test_usage_is_hidden_whatever_the_line_end(line_end: bytes) -> None:
    body, expected = (
        one.replace(b"\n", line_end) for one in (CHAT_WITH_USAGE, CHAT_WITH_USAGE.replace(_usage_event(), b""))
    )
    for place in range(len(body)):
        assert send([body[:place], body[place:]], hide=True).body == expected


def test_usage_in_a_chunk_with_text_is_hidden_and_the_text_stays() -> None:
    event = chunk("hi", usage={"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4, "x": {"%d": "a-b%1"}})
    passed = send([event, data({"usage": None, "choices": [{"index": 0}]}), DONE], hide=True)
    assert passed.body == chunk("hi") + data({"choices": [{"index": 0}]}) + DONE


def test_other_typed_events_pass() -> None:
    events = b"".join(
        typed(f"response.{name}", sequence_number=n, delta="x", response={"error": None})
        for n, name in enumerate(("reasoning_text.delta", "function_call_arguments.delta", "custom", "queued"))
    )
    unnamed = data({"type": "response.output_text.delta", "delta": "x"})
    passed = send([events + unnamed + typed_end()], stream="typed")
    assert passed.body == events + unnamed + typed_end()


def test_a_final_event_is_known_by_its_type_too() -> None:
    body = typed_end().partition(b"\n")[2]
    assert send([body], stream="typed").metadata == COUNTED | {"terminal": True}


def test_a_bug_in_the_filter_costs_no_byte() -> None:
    driver.lua.cache_clear()  # a Lua of its own, for it is broken on purpose
    try:
        broken = driver.lua()
        source = STREAM_FILTER.read_bytes()
        assert source.count(b"= parse(event)") == 1
        broken.execute(source.replace(b"= parse(event)", b"= parse(nil)"))
        seen = broken.globals()[b"run"](
            broken.table_from({b"stream": b"data_done"}),
            broken.table_from({b":status": b"200", b"content-type": b"text/event-stream"}),
            broken.table(*cut(CHAT, 50)),
            b"end",
        )
        assert b"".join(seen[b"out"].values()) == CHAT
        assert len(list(seen[b"errors"].values())) == 1
    finally:
        driver.lua.cache_clear()


def test_the_gateways_check_of_scripts_accepts_the_filter() -> None:
    """It runs the code without these globals, calls the entry behind it, and whatever is asked answers with text."""
    sandbox = """
    io, os, require, loadfile, dofile, package, debug, load, loadstring, module, newproxy = nil
    rawget, rawset, getmetatable, setmetatable, getfenv, setfenv, _G = nil
    local text = function() return "some text" end
    local chunk = { length = function() return 10 end, getBytes = text, setBytes = function() end }
    local metadata = { get = text, set = function() end }
    StreamHandle = {
      headers = function() return { get = text, remove = function() end } end,
      streamInfo = function() return { dynamicMetadata = function() return metadata end } end,
      logErr = function() end,
      timestamp = text,
      bodyChunks = function() local left = 1 return function() if left > 0 then left = 0 return chunk end end end,
    }
    """
    code = STREAM_FILTER.read_text()
    assert "envoy_on_request" not in code
    for make in (luajit21.LuaRuntime, lua51.LuaRuntime):
        runtime = make()
        runtime.execute(sandbox)
        runtime.execute(code + "\nenvoy_on_response(StreamHandle)")


@given(st.data())
def test_no_bytes_make_the_filter_fail_or_lose_what_it_should_pass(drawn: st.DataObject) -> None:
    parts = st.sampled_from([
        b"data: ", b"event: ", b"\n", b"\r", b"\r\n", b"\n\n", b'{"id":', b'"usage":{', b"}", b"]", b'"', b"\\",
        b"[DONE]", b"response.completed", b"error", b":", b"null", b"5", b"\xff", b'{"error":', b"[", b"message_delta",
        b'"choices":[]', b",", b'"response":{"error":{',
    ])  # fmt: skip
    body = b"".join(drawn.draw(st.lists(parts, max_size=60)))
    kind = drawn.draw(st.sampled_from(["data_done", "typed", "anthropic", "transcript"]))
    whole = send([body, b""], stream=kind, hide=True)
    places = drawn.draw(st.lists(st.integers(0, 400), max_size=10))
    assert send(cut_at(body, places), stream=kind, hide=True).body == whole.body


@given(
    names=st.dictionaries(
        st.sampled_from([
            "prompt_tokens", "completion_tokens", "total_tokens", "input_tokens", "output_tokens",
            "cache_read_input_tokens", "cache_creation_input_tokens", "other",
        ]),
        st.integers(0, 10**9),
    ),
    cached=st.none() | st.integers(0, 10**6),
)  # fmt: skip
def test_usage_is_counted_as_the_gateway_counts_it(names: dict[str, int], cached: int | None) -> None:
    usage: dict[str, Any] = dict(names)
    if cached is not None:
        usage["prompt_tokens_details"] = {"cached_tokens": cached}
    ours = send([json.dumps({"data": "x" * 5000, "usage": usage}).encode()], content_type="application/json").metadata
    python = usage_from_json(json.dumps({"usage": usage}))
    if python is None:
        assert ours == {"unmetered": "no_usage"}
    else:
        found = {name: ours.get(name, 0) for name in ("input_tokens", "output_tokens", "total_tokens", "cached_tokens")}
        assert found == {name: getattr(python, name) for name in found}
