"""Readers of traces: the three forms, and what they say of lines that they cannot read."""

import logging
import random

import msgspec
import pytest

from aibrix_extproc.adapters.telemetry.logs import JsonFormatter, log_prefix, log_record
from aibrix_extproc.core.exchange.outputs import Assigned
from aibrix_extproc.core.exchange.records import ExchangeRecord
from aibrix_extproc.core.openai.wire.request import RequestFacts, read_json
from aibrix_extproc.core.openai.wire.usage import Usage
from aibrix_extproc.core.placing import RouteQuery
from aibrix_extproc.replay.trace import Text, TraceError, Writer, sped_up, trace_of
from aibrix_extproc.replay.traces.form import read_trace

MOONCAKE = (
    b'{"timestamp": 2000, "input_length": 1100, "output_length": 7, "hash_ids": [0, 1, 2]}\n',
    b"\n",
    b'{"timestamp": 1000, "input_length": 512, "output_length": 3, "hash_ids": [0]}\n',
)
AZURE = (
    b"TIMESTAMP,ContextTokens,GeneratedTokens\r\n",
    b"2023-11-16 18:17:03.9799600,4808,10\r\n",
    b"2023-11-16 18:17:04.9799600,110,27\r\n",
)
LOG = (
    b'pod/a | {"time": "2026-01-01T00:00:05.500+00:00", "level": "info", "message": "exchange recorded",'
    b' "input_tokens": 900, "output_tokens": 20, "seconds": 5.5, "model": "m"}\n',
    b'{"time": "2026-01-01T00:00:05.600+00:00", "message": "exchange finished", "seconds": 1}\n',
    b'{"time": "2026-01-01T00:00:04.000+00:00", "message": "exchange recorded", "input_tokens": null}\n',
    b'{"time": "2026-01-01T00:00:06.000+00:00", "message": "exchange placed", "request_id": "r", "prefix": [5, 6],'
    b' "prefix_ends": [1024, 1280]}\n',
    b'{"time": "2026-01-01T00:00:07.000+00:00", "message": "exchange recorded", "request_id": "r", "input_tokens": 320,'
    b' "output_tokens": 2, "seconds": 1.0}\n',
)


def test_mooncake_gives_times_in_order_and_full_blocks_only() -> None:
    trace = read_trace("t", MOONCAKE)
    assert [(one.at, one.prompt_tokens, one.blocks) for one in trace.requests] == [(0, 512, (0,)), (1, 1100, (0, 1))]
    assert trace.has_prefixes
    assert trace.seconds == 1


def test_azure_gives_lengths_and_no_prefixes() -> None:
    trace = read_trace("t", AZURE)
    assert [(round(one.at, 6), one.prompt_tokens, one.output_tokens) for one in trace.requests] == [
        (0, 4808, 10),
        (1, 110, 27),
    ]
    assert not trace.has_prefixes


def test_a_gateways_log_gives_the_exchanges_with_a_usage_at_their_beginnings() -> None:
    trace = read_trace("t", LOG)
    assert [(one.at, one.prompt_tokens, one.output_tokens, one.model) for one in trace.requests] == [
        (0, 900, 20, "m"),
        (6, 320, 2, "model"),
    ]
    assert trace.has_prefixes
    assert len(trace.requests[1].blocks) == 320 // trace.block_tokens


def test_prompts_in_a_gateways_log_share_blocks_as_far_as_they_share_its_own(caplog: pytest.LogCaptureFixture) -> None:
    text = "".join(random.Random(1).choices("abcdefghij ", k=9_000))
    lines = []
    for name, prompt in (("one", text), ("two", text[:6_000] + "other" * 600), ("three", "x" + text)):
        body = msgspec.json.encode({"model": "m", "messages": [{"role": "user", "content": prompt}]})
        facts = read_json(body, sized=True, prefix_seed=7)
        assert isinstance(facts, RequestFacts)
        with caplog.at_level(logging.INFO):
            log_prefix(Assigned("e", request_id=name, query=RouteQuery("m", prefix=facts.prefix)))
        lines.append(JsonFormatter().format(caplog.records[-1]).encode())
        record = ExchangeRecord(name, model="m", usage=Usage(len(body) // 4, 5, len(body) // 4 + 5))
        with caplog.at_level(logging.INFO):
            log_record(record)
        lines.append(JsonFormatter().format(caplog.records[-1]).encode())
        assert prompt[:20].encode() not in lines[-2]
    one, two, three = (set(request.blocks) for request in read_trace("t", lines).requests)
    assert 5_000 / 512 <= len(one & two) <= 6_000 / 512 + 1
    assert not one & three


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ((b" \n",), "empty"),
        ((b'{"timestamp": 1, "input_length": 0, "output_length": 1}',), "line 1"),
        ((*MOONCAKE, b'{"timestamp": "x"}'), "line 4"),
        ((*MOONCAKE, b"\xff\xfe"), "line 4"),
        ((b"TIMESTAMP,ContextTokens\n", b"x,1\n"), "GeneratedTokens"),
        ((*AZURE, b"2023-11-16 18:17:04,many,1\n"), "line 4"),
        ((*AZURE, b"2023-11-16 18:17:04\n"), "line 4"),
        ((b"hello\n",), "exchange recorded"),
        ((*LOG, b'{"time": "noon", "message": "exchange recorded"}'), "line 6"),
        ((*LOG, LOG[3].replace(b"1280", b"1024")), "line 6"),
    ],
    ids=["empty", "no-prompt", "type", "bytes", "column", "number", "short", "no-line", "time", "ends"],
)
def test_a_broken_trace_is_refused_in_words(lines: tuple[bytes, ...], words: str) -> None:
    with pytest.raises(TraceError, match=words):
        read_trace("t", lines)


def test_a_faster_trace_has_the_same_requests() -> None:
    trace = sped_up(read_trace("t", MOONCAKE), 2.0)
    assert [one.at for one in trace.requests] == [0, 0.5]
    assert trace_of("t", trace.requests[1:]).requests[0].at == 0


def test_texts_share_the_blocks_that_were_full_when_they_parted() -> None:
    writer = Writer(10)
    begin = writer.extended(Text(), 25)
    one, other = writer.extended(begin, 10), writer.extended(begin, 10)
    assert one.blocks[:2] == other.blocks[:2] == begin.blocks
    assert one.blocks[2] != other.blocks[2]
