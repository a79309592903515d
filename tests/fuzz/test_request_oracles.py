"""Mutated JSON bodies, read by us and by what engines read them with: json and pydantic, as vLLM's frontends do.

Whatever is accepted must be read alike. vLLM's Python frontend takes `json.loads` and then pydantic in its lax mode;
others take `pydantic_core.from_json`, or refuse members that come twice.
"""

import json
import random
from typing import Any, Final

import pydantic_core
import pytest
from pydantic import BaseModel, ConfigDict, ValidationError

from aibrix_extproc.core.exchange.forwarding import changed_body, forbidden_control
from aibrix_extproc.core.openai.contract.controls import BODY_CONTROLS, Otherwise
from aibrix_extproc.core.openai.contract.operations import ModelIn
from aibrix_extproc.core.openai.wire.request import RequestFacts, read_json
from aibrix_extproc.core.placing import ANYONE
from aibrix_extproc.rope import Rope
from tests.build import an_operation
from tests.fuzz import mutate
from tests.fuzz.recorded import REQUESTS

BODIES: Final = tuple(one.body for one in REQUESTS if one.body.startswith(b"{"))
NUMBERS: Final = (
    pytest.param(2_000, id="some"),
    pytest.param(100_000, id="many", marks=[pytest.mark.fuzz, pytest.mark.slow]),
)
CHAT, RESPONSE = an_operation("chat_completion"), an_operation("response")
FIELDS: Final = (
    "model", "stream", "stream_options", "previous_response_id", "max_tokens", "max_completion_tokens", *BODY_CONTROLS,
)  # fmt: skip
VALUES: Final = (
    "null", "true", "false", "0", "1", "-1", "1.0", "1e0", "2", '"true"', '"True"', '"yes"', '"on"', '"t"', '"1"', '""',
    '" "', '"m"', "[]", "{}", "[true]", '{"include_usage":true}', '{"include_usage":1}', '{"include_usage":"true"}',
    '{"include_usage":null,"include_usage":true}', '{"include_us\\u0061ge":true}', '{"x":{"include_usage":true}}',
    '{ "continuous_usage_stats" : false }', '{"continuous_usage_stats":"on"}', "NaN", "Infinity", "1e999", "9" * 5000,
    '"\\ud800"', '"\\ud83d\\ude00"', '"\\u0000"', '"\\/"', '"\xe9"', "16", '"16"', "16.0", "-100", "tru", "nul",
)  # fmt: skip
SPACES: Final = ("", " ", "\n", "\t\r\n ", "\ufeff", "\x0b", "\xa0")


class StreamOptions(BaseModel):
    """As vLLM has them."""

    model_config = ConfigDict(extra="allow")

    include_usage: bool | None = False
    continuous_usage_stats: bool | None = False


class Request(BaseModel):
    """The fields that we read, with vLLM's types and pydantic's lax mode."""

    model_config = ConfigDict(extra="allow")

    model: str | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    previous_response_id: str | None = None
    priority: int = 0
    session_id: str | None = None
    cache_salt: str | None = None
    request_id: str = ""
    kv_transfer_params: dict[str, Any] | None = None
    ec_transfer_params: dict[str, Any] | None = None
    vllm_xargs: dict[str, Any] | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None


def spelled(rng: random.Random, name: str) -> str:
    """A name as it may be written in JSON."""
    at = rng.randrange(len(name))
    return rng.choice((name, name, name, f"{name[:at]}\\u{ord(name[at]):04x}{name[at + 1 :]}", name.upper()))


def mutated_body(rng: random.Random) -> bytes:
    """A recorded body with members that we read in front or behind, and perhaps mutated as the other messages are."""
    body = rng.choice(BODIES)
    if rng.random() < 0.25:
        body = mutate.body(rng, body, BODIES)
    for _ in range(rng.choice((1, 1, 2, 3))):
        space = rng.choice(SPACES) if rng.random() < 0.2 else ""
        member = f'{space}"{spelled(rng, rng.choice(FIELDS))}"{space}:{rng.choice(VALUES)}{space}'.encode()
        front = rng.random() < 0.5
        body = body[:1] + member + b"," + body[1:] if front else body[:-1] + b"," + member + body[-1:]
    match rng.randrange(60):
        case 0:
            return body.decode("utf-8", "replace").encode("utf-16")
        case 1:
            return b"\xef\xbb\xbf" + body
        case 2:
            return body + rng.choice((b" ", b"\n", b"\x00", b"{}", b","))
        case 3 | 4 | 5:
            return mutate.some_bytes(rng, body, BODIES)
    return body


def by_engine(body: bytes) -> Request | None:
    """What vLLM makes of it; None if it refuses."""
    try:
        return Request.model_validate(json.loads(body))
    except (ValueError, RecursionError, ValidationError):
        return None


def is_json(body: bytes) -> bool:
    """Whether engines can read it at all; Python refuses integers of over 4,300 digits."""
    try:
        json.loads(body)
    except (ValueError, RecursionError):
        return False
    return True


def by_pydantic(body: bytes) -> Any:
    try:
        return pydantic_core.from_json(body, allow_inf_nan=False)
    except ValueError:
        return None


def assert_read_alike(facts: RequestFacts, read: Request) -> None:
    assert read.model == facts.model
    assert bool(read.stream) is facts.stream
    asked = read.stream_options is not None and bool(read.stream_options.include_usage)
    assert facts.includes_usage is (facts.stream and asked)
    assert read.previous_response_id == facts.previous_response_id
    found = {one.name for one in facts.controls}
    defaults = {"priority": (0,), "request_id": ("",)}
    for name in BODY_CONTROLS:
        assert name in found or getattr(read, name) in defaults.get(name, (None,)), name


def assert_sent_on_alike(body: bytes, facts: RequestFacts) -> None:
    """What an engine gets, read by it: usage asked for, controls without effect, everything else as it was."""
    for operation in (CHAT, RESPONSE):
        response_id = "resp_id1" if operation is RESPONSE else None
        sent = changed_body(
            operation, facts, body, ANYONE, request_id="id-1", response_id=response_id, metering=True
        ).data
        assert operation.model_in is ModelIn.JSON
        assert not isinstance(sent, Rope)
        before, after = json.loads(body), json.loads(sent or body)
        expected = dict(before)
        for name, control in BODY_CONTROLS.items():
            if name in {one.name for one in facts.controls} and control.otherwise is Otherwise.REMOVED:
                expected[name] = "id-1" if name == "request_id" else None
        if operation is RESPONSE:
            expected["request_id"] = "resp_id1"
        elif facts.stream:
            expected["stream_options"] = {**(before.get("stream_options") or {}), "include_usage": True}
        assert after == expected


@pytest.mark.parametrize("number", NUMBERS)
def test_what_we_accept_engines_read_alike(number: int) -> None:
    accepted = refused = 0
    for seed in range(number):
        rng = random.Random(seed)
        body = mutated_body(rng)
        facts = read_json(body)
        try:
            read_json(body, sized=True)
            if not isinstance(facts, RequestFacts):
                refused += 1
                continue
            accepted += 1
            read = by_engine(body)
            if is_json(body) and forbidden_control(facts, ANYONE) is None:
                assert_sent_on_alike(body, facts)
            if read is not None:
                assert_read_alike(facts, read)
            told = by_pydantic(body)
            if told is not None:
                assert told.get("model") == facts.model
                assert (told.get("stream") is True) is facts.stream
        except Exception as error:
            error.add_note(f"body of seed {seed}: {body!r:.2000}")
            raise
    assert min(accepted, refused) > number // 10
