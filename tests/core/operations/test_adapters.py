"""What an engine has under an adapter's name decides whether it is asked, left out, or everything is refused."""

import json

import pytest

from aibrix_extproc.core.operations.adapters import Found, conflicts, find, needless
from aibrix_extproc.core.operations.agreement import EngineAnswer
from aibrix_extproc.core.operations.table import ENGINE_OPERATIONS

LOAD, UNLOAD = ENGINE_OPERATIONS["load_lora_adapter"], ENGINE_OPERATIONS["unload_lora_adapter"]
WANTED = {"lora_name": "sql", "lora_path": "/a/sql"}
CARDS = [{"id": "llama", "root": "/models/llama"}, {"id": "sql", "root": "/a/sql", "parent": "llama"}]


def listing(body: object, status: int = 200, failure: str = "") -> EngineAnswer:
    return EngineAnswer(
        "e", status, "", body if isinstance(body, bytes) else json.dumps(body).encode(), failure=failure
    )


@pytest.mark.parametrize(
    ("answer", "parameters", "found"),
    [
        (listing({"data": CARDS}), WANTED, Found.SAME),
        (listing({"data": CARDS}), WANTED | {"lora_path": "/b"}, Found.OTHER),
        (listing({"data": CARDS}), {"lora_name": "sql"}, Found.SAME),
        (listing({"data": CARDS[:1]}), WANTED, Found.NOTHING),
        (listing({"data": []}), WANTED, Found.NOTHING),
        (listing({"data": [{"id": "sql"}]}), WANTED, Found.OTHER),
        (listing({"data": [{"id": 7}]}), WANTED, Found.UNKNOWN),
        (listing(b"\xff"), WANTED, Found.UNKNOWN),
        (listing(b"[" * 100_000), WANTED, Found.UNKNOWN),
        (listing({"data": CARDS}, 500), WANTED, Found.UNKNOWN),
        (listing(b"", 0, "reset"), WANTED, Found.UNKNOWN),
    ],
)
def test_list_of_models_shows_the_adapter(answer: EngineAnswer, parameters: dict[str, str], found: Found) -> None:
    assert find(answer, parameters) is found


def test_another_adapter_of_the_name_is_a_conflict_unless_it_is_replaced() -> None:
    assert conflicts(LOAD, WANTED, Found.OTHER)
    assert not conflicts(LOAD, WANTED | {"load_inplace": True}, Found.OTHER)
    assert not conflicts(LOAD, WANTED, Found.SAME)
    assert not conflicts(UNLOAD, {"lora_name": "sql"}, Found.OTHER)


def test_engine_that_is_as_wanted_is_left_out() -> None:
    assert needless(LOAD, WANTED, Found.SAME)
    assert needless(UNLOAD, WANTED, Found.NOTHING)
    assert not needless(LOAD, WANTED | {"load_inplace": True}, Found.SAME)
    for found in (Found.UNKNOWN, Found.NOTHING, Found.OTHER):
        assert not needless(LOAD, WANTED, found)
    for found in (Found.UNKNOWN, Found.SAME):
        assert not needless(UNLOAD, WANTED, found)
