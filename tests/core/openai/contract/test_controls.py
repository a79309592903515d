"""Controls of engines: seen however they are written, by one table for bodies, forms and headers."""

import json
from typing import Any

import pytest

from aibrix_extproc.core.exchange.forwarding import Body, changed_body, forbidden_control
from aibrix_extproc.core.openai.contract.controls import BODY_CONTROLS, CONTROLS, HEADER_CONTROLS, Otherwise
from aibrix_extproc.core.openai.contract.errors import Problem
from aibrix_extproc.core.openai.contract.headers import READ_HEADERS
from aibrix_extproc.core.openai.wire.request import RequestFacts, read_fields, read_json
from aibrix_extproc.core.placing import ANYONE, Caller
from tests.build import an_operation

STRONG = Caller("ops", engine_controls=True)
REFUSED = [name for name, row in BODY_CONTROLS.items() if row.otherwise is Otherwise.REFUSED]
REMOVED = [name for name, row in BODY_CONTROLS.items() if row.otherwise is Otherwise.REMOVED]
VALUES = ["-100", "1.5", '"1"', '"x"', "{}", '{"a":1}', "[]", "true"]


def facts_of(body: bytes) -> RequestFacts:
    facts = read_json(body)
    assert isinstance(facts, RequestFacts)
    return facts


def forwarded(body: bytes, operation: str = "chat_completion", caller: Caller = ANYONE, **options: Any) -> Body:
    facts = facts_of(body)
    assert forbidden_control(facts, caller) is None
    response_id = "resp_made" if operation == "response" else None
    return changed_body(
        an_operation(operation),
        facts,
        body,
        caller,
        request_id="id-1",
        response_id=response_id,
        metering=options.get("metering", False),
    )


def sent_on(body: Body) -> bytes:
    assert isinstance(body.data, bytes)
    return body.data


def test_names_are_unique_and_headers_are_read() -> None:
    assert len({row.name for row in CONTROLS}) == len(CONTROLS)
    assert set(HEADER_CONTROLS) <= READ_HEADERS


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("escaped", [False, True])
def test_control_of_a_caller_that_may_not_steer_is_refused(name: str, value: str, escaped: bool) -> None:
    key = "".join(f"\\u{ord(char):04x}" for char in name) if escaped else name
    for body in (f'{{"model":"m","{key}":{value}}}', f'{{"{name}":null,"model":"m","{key}":{value}}}'):
        problem = forbidden_control(facts_of(body.encode()), ANYONE)
        assert problem == Problem("engine_control", {"param": name}, param=name)
        assert forbidden_control(facts_of(body.encode()), STRONG) is None


@pytest.mark.parametrize("name", REFUSED)
def test_control_without_effect_passes_as_it_is(name: str) -> None:
    for value in BODY_CONTROLS[name].harmless:
        assert forwarded(b'{"model":"m","%b":-1,"%b":%b}' % (name.encode(), name.encode(), bytes(value))).data is None


def test_nested_members_of_the_same_name_are_no_controls() -> None:
    inner = dict.fromkeys(BODY_CONTROLS, -100)
    body = json.dumps({"model": "m", "metadata": inner, "messages": [inner], "text": json.dumps(inner)}).encode()
    assert forwarded(body).data is None


@pytest.mark.parametrize("value", VALUES)
def test_removed_controls_have_no_effect_and_all_else_stays(value: str) -> None:
    members = ", ".join(f'"{name}" : {value}' for name in REMOVED)
    body = f' {{ {members}, "model":"m","stream":true, "x": "{"é" * 9}"}}'.encode()
    found = json.loads(sent_on(forwarded(body, metering=True)))
    sent = json.loads(body)
    assert found == {**sent, "session_id": None, "request_id": "id-1", "stream_options": {"include_usage": True}}
    assert json.loads(sent_on(forwarded(body, caller=STRONG, metering=True)))["session_id"] == sent["session_id"]


@pytest.mark.parametrize("given", ["", '"request_id":null,', '"request_id":"mine",', '"request\\u005fid":{"a":[1]},'])
def test_response_has_our_id_exactly_once(given: str) -> None:
    for caller in (ANYONE, STRONG):
        body = forwarded(f'{{{given}"model":"m","input":"x"}}'.encode(), "response", caller)
        pairs = json.loads(sent_on(body), object_pairs_hook=list)
        assert [value for name, value in pairs if name == "request_id"] == ["resp_made"]


def test_form_with_a_control_is_refused() -> None:
    for name in REFUSED:
        facts = read_fields({"model": "m", name: "null"})
        assert isinstance(facts, RequestFacts)
        assert forbidden_control(facts, ANYONE) is not None
        assert forbidden_control(facts, STRONG) is None
