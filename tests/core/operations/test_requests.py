"""Parameters of engine operations are refused before any engine is asked, and reach engines as vLLM reads them."""

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibrix_extproc.core.openai.contract.errors import Problem, shape
from aibrix_extproc.core.operations.parameters import MAX_PATH
from aibrix_extproc.core.operations.requests import EngineRequest, read_parameters, request_of
from aibrix_extproc.core.operations.table import ENGINE_OPERATIONS, ROWS

LORA = {"lora_name": "sql", "lora_path": "/adapters/sql"}


def read(
    operation: str, query: Mapping[str, Sequence[str]] | None = None, body: Mapping[str, Any] | None = None
) -> Any:
    return read_parameters(ENGINE_OPERATIONS[operation], query or {}, body or {})


def test_ids_are_unique_and_nothing_that_runs_code_has_a_row() -> None:
    assert len(ENGINE_OPERATIONS) == len(ROWS)
    paths = {row.path for row in ROWS}
    assert paths.isdisjoint(
        {
            "/collective_rpc", "/init_weight_transfer_engine", "/shutdown_weight_transfer_engine", "/scale_elastic_ep",
            "/fault_tolerance/apply", "/start_draft_weight_update", "/invocations",
        }
    )  # fmt: skip


def test_every_operation_that_changes_engines_says_what_requests_notice() -> None:
    assert [row.id for row in ROWS if row.changes and not (row.running and row.fresh)] == []
    assert [row.id for row in ROWS if row.disturbing and not row.changes] == []


@pytest.mark.parametrize(
    ("operation", "query", "body", "target", "sent"),
    [
        ("sleep", {}, {}, "/sleep", None),
        ("sleep", {"level": ["2"], "mode": ["wait"]}, {}, "/sleep?level=2&mode=wait", None),
        ("sleep", {"model": ["m"]}, {}, "/sleep", None),
        ("wake_up", {"tags": ["weights", "kv_cache"]}, {}, "/wake_up?tags=weights&tags=kv_cache", None),
        ("pause", {"mode": ["keep"], "clear_cache": ["False"]}, {}, "/pause?mode=keep&clear_cache=false", None),
        ("reset_prefix_cache", {"reset_external": ["1"]}, {}, "/reset_prefix_cache?reset_external=true", None),
        ("load_lora_adapter", {}, LORA, "/v1/load_lora_adapter", LORA),
        (
            "load_lora_adapter", {}, LORA | {"lora_path": "org/name", "load_inplace": True}, "/v1/load_lora_adapter",
            LORA | {"lora_path": "org/name", "load_inplace": True},
        ),
        ("unload_lora_adapter", {}, {"lora_name": "sql"}, "/v1/unload_lora_adapter", {"lora_name": "sql"}),
        ("abort_requests", {}, {}, "/abort_requests", {}),
        ("abort_requests", {}, {"request_ids": ["a", "b"]}, "/abort_requests", {"request_ids": ["a", "b"]}),
        ("update_weights", {}, {"update_info": {"names": ["w"]}}, "/update_weights", {"update_info": {"names": ["w"]}}),
        ("get_world_size", {"include_dp": ["no"]}, {}, "/get_world_size?include_dp=false", None),
    ],
)  # fmt: skip
def test_good_parameters_reach_the_engine(
    operation: str, query: dict[str, list[str]], body: dict[str, Any], target: str, sent: dict[str, Any] | None
) -> None:
    found = read(operation, query, body)
    request = request_of(ENGINE_OPERATIONS[operation], found)
    wanted = None if sent is None else json.dumps(sent).encode()
    assert (request.method, request.target, request.body) == (ENGINE_OPERATIONS[operation].method, target, wanted)


@pytest.mark.parametrize(
    ("operation", "body", "path", "sent"),
    [
        ("load_lora_adapter", LORA, "/v1/lora_adapter/load", LORA),
        ("load_lora_adapter", LORA | {"load_inplace": False}, "/v1/lora_adapter/load", LORA),
        ("load_lora_adapter", LORA | {"load_inplace": True}, "", None),
        ("load_lora_adapter", LORA | {"is_3d_lora_weight": True}, "", None),
        ("unload_lora_adapter", {"lora_name": "sql", "lora_int_id": 3}, "/v1/lora_adapter/unload",
         {"lora_name": "sql", "lora_int_id": 3}),
        ("abort_requests", {"request_ids": []}, "", None),
        ("sleep", {}, "", None),
    ],
)  # fmt: skip
def test_runtime_sidecar_gets_what_it_takes(operation: str, body: dict[str, Any], path: str, sent: object) -> None:
    request = request_of(ENGINE_OPERATIONS[operation], read(operation, {}, body)).of_runtime
    assert request == (EngineRequest("POST", path, json.dumps(sent).encode()) if path else None)


@pytest.mark.parametrize(
    ("operation", "query", "body", "param"),
    [
        ("sleep", {"level": ["3"]}, {}, "level"),
        ("sleep", {"level": ["-1"]}, {}, "level"),
        ("sleep", {"level": ["one"]}, {}, "level"),
        ("sleep", {"level": ["1", "2"]}, {}, "level"),
        ("sleep", {"level": [""]}, {}, "level"),
        ("sleep", {"level": ["9" * 5000]}, {}, "level"),
        ("sleep", {"level": ["\u0661"]}, {}, "level"),
        ("sleep", {"leve": ["2"]}, {}, "leve"),
        ("sleep", {}, {"level": 2}, "level"),
        ("sleep", {"mode": ["kill"]}, {}, "mode"),
        ("pause", {"clear_cache": ["maybe"]}, {}, "clear_cache"),
        ("wake_up", {"tags": ["nope"]}, {}, "tags"),
        ("wake_up", {"tags": ["weights"] * 4}, {}, "tags"),
        ("version", {"x" * 65: ["1"]}, {}, "?"),
        ("load_lora_adapter", {}, {}, "lora_name"),
        ("load_lora_adapter", {}, {"lora_name": "sql"}, "lora_path"),
        ("load_lora_adapter", {}, LORA | {"lora_name": ""}, "lora_name"),
        ("load_lora_adapter", {}, LORA | {"lora_name": 7}, "lora_name"),
        ("load_lora_adapter", {}, LORA | {"lora_name": "a b"}, "lora_name"),
        ("load_lora_adapter", {}, LORA | {"lora_name": "../a"}, "lora_name"),
        ("load_lora_adapter", {}, LORA | {"lora_name": "a/../b"}, "lora_name"),
        ("load_lora_adapter", {}, LORA | {"lora_name": "a" * 257}, "lora_name"),
        ("load_lora_adapter", {}, LORA | {"lora_name": "a\n"}, "lora_name"),
        ("load_lora_adapter", {}, LORA | {"load_inplace": "true"}, "load_inplace"),
        ("load_lora_adapter", {}, LORA | {"rank": 8}, "rank"),
        ("unload_lora_adapter", {}, {"lora_name": "a", "lora_int_id": 0}, "lora_int_id"),
        ("unload_lora_adapter", {}, {"lora_name": "a", "lora_int_id": True}, "lora_int_id"),
        ("abort_requests", {}, {"request_ids": "a"}, "request_ids"),
        ("abort_requests", {}, {"request_ids": [1]}, "request_ids"),
        ("abort_requests", {}, {"request_ids": ["a"] * 5000}, "request_ids"),
        ("update_weights", {}, {}, "update_info"),
        ("update_weights", {}, {"update_info": []}, "update_info"),
        ("finish_weight_update", {}, {"weight_version": "v 1"}, "weight_version"),
        ("weight_checker", {}, {"action": "run"}, "action"),
        ("server_info", {"config_format": ["yaml"]}, {}, "config_format"),
    ],
)  # fmt: skip
def test_bad_parameters_are_refused(
    operation: str, query: dict[str, list[str]], body: dict[str, Any], param: str
) -> None:
    found = read(operation, query, body)
    assert isinstance(found, Problem)
    answer = shape(found)
    assert answer.status == 400
    assert len(answer.body) < 1000
    assert json.loads(answer.body)["error"]["param"] == param


@pytest.mark.parametrize(
    "path",
    [
        "", "..", "/a/../b", "/..", "a/..", "../a/b", "/a\0b", "/a\nb", "s3://bucket/key", "http://169.254.169.254/x",
        "file:///etc/passwd", "/a://b", "~/adapter", "adapter", "a/b/c", "-x/y", "\\\\host\\share", "/a\\..\\b",
        "/" + "a" * MAX_PATH, "\ud800/x",
    ],
)  # fmt: skip
def test_path_that_could_mean_something_else_is_refused(path: str) -> None:
    found = read("load_lora_adapter", {}, LORA | {"lora_path": path})
    assert isinstance(found, Problem)
    assert found.param == "lora_path"


@pytest.mark.parametrize("path", ["/a", "/a/b.c/d-e", "/mnt/öl/1", "org/name", "o-r.g/n_a.me", "/a/...", "/a b"])
def test_path_on_the_engines_machine_or_repository_passes(path: str) -> None:
    assert read("load_lora_adapter", {}, LORA | {"lora_path": path}) == LORA | {"lora_path": path}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(sorted({one.name for row in ROWS for one in row.parameters} | {"x"}))


@given(
    st.sampled_from(ROWS),
    st.dictionaries(NAMES, st.lists(st.text(max_size=12), min_size=1, max_size=3), max_size=3),
    st.dictionaries(NAMES, JSON, max_size=3),
)
def test_whatever_is_sent_is_refused_or_arrives_as_it_was_read(row: Any, query: Any, body: Any) -> None:
    found = read_parameters(row, query, body)
    if isinstance(found, Problem):
        assert shape(found).status == 400
        return
    request = request_of(row, found)
    url = urlsplit(request.target)
    assert url.path == row.path
    assert not url.netloc
    in_query = {one.name for one in row.parameters if one.in_query}
    assert parse_qs(url.query, keep_blank_values=True).keys() == in_query & found.keys()
    if request.body is not None:
        assert json.loads(request.body) == {name: value for name, value in found.items() if name not in in_query}
