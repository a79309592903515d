"""Acceptance 7.14, IF: what each caller is told of the interface, through a real Envoy."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx2
import openai
import pytest
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from aibrix_extproc import __version__
from aibrix_extproc.core.access.holders import digest_of
from tests.dataplane.engines import EngineSpec
from tests.dataplane.openai_error import assert_openai_error
from tests.dataplane.raw import Answer
from tests.dataplane.stack import Stack, running

HELLO: Final = [{"role": "user", "content": "hello"}]
FLEET: Final = (
    EngineSpec("new", ("chat-m",), ("--vllm-version", "0.33.0", "--max-model-len", "8192")),
    EngineSpec("old", ("chat-m",), ("--vllm-version", "0.32.0", "--max-model-len", "8192")),
    EngineSpec("emb", ("emb-m",), ("--task", "embed")),
)
CALLERS: Final[dict[str, dict[str, Any]]] = {
    "ops": {"role": "admin"},
    "chats": {
        "models": ["chat-*"],
        "operations": ["chat_completion", "embedding", "list_models", "list_interfaces", "retrieve_interface",
                       "retrieve_openapi"],
        "limits": {"requests_per_minute": 600, "tokens_per_minute": 9000.0, "budget_per_day": 0.5},
    },
}  # fmt: skip


def key_of(caller: str) -> dict[str, str]:
    return {"authorization": f"Bearer sk-interfaces-{caller}-0123456789abcdef"}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder: Path = tmp_path_factory.mktemp("interfaces")
    rows = []
    for name, row in CALLERS.items():
        digest = digest_of(key_of(name)["authorization"].removeprefix("Bearer ")).hex()
        rows.append({"name": name, "keys": [{"hash": f"sha256:{digest}", "id": f"k_{name}"}], **row})
    (folder / "keys.yaml").write_text(json.dumps({"callers": rows}))
    stack = Stack(
        folder, FLEET, api_keys=("sk-interfaces-all",), serve_arguments=("--key-file", str(folder / "keys.yaml"))
    )
    with running(stack) as started:
        yield started


def asked(stack: Stack, path: str, caller: str = "", **headers: str) -> Answer:
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return stack.send("GET", path, headers=(key_of(caller) if caller else {}) | named)


def test_if_01_a_limited_key_is_told_of_its_operations_models_and_limits(told: Stack) -> None:
    listed = asked(told, "/v1/interfaces", "chats").json()["data"]
    assert [one["id"] for one in listed] == [
        "chat_completion", "embedding", "list_models", "list_interfaces", "retrieve_interface", "retrieve_openapi",
    ]  # fmt: skip
    (chat,) = (one for one in listed if one["id"] == "chat_completion")
    assert (chat["method"], chat["path"], chat["api_version"]) == ("POST", "/v1/chat/completions", "v1")
    assert (chat["input_media"], chat["streaming"]) == ("application/json", True)
    assert chat["models"] == [{"id": "chat-m", "tasks": ["generate"], "max_model_len": 8192}]
    assert chat["engines"] == [{"engine": "vllm", "version": f"0.{minor}.0"} for minor in (32, 33)]
    limits = {"requests_per_minute": 600, "tokens_per_minute": 9000, "budget_per_day": 0.5}
    assert chat["limits"] == limits | {"max_body_bytes": 50 * 2**20}
    assert {"field": "max_tokens", "instead": "max_completion_tokens"} in chat["deprecations"]
    (embedding,) = (one for one in listed if one["id"] == "embedding")
    assert embedding["models"] == []


def test_if_01_schemas_hold_what_the_sdk_sends_and_gets(told: Stack) -> None:
    interface = asked(told, "/v1/interfaces/chat_completion", "chats").json()
    bodies: list[bytes] = []
    with (
        httpx2.Client(event_hooks={"request": [lambda request: bodies.append(request.content)]}) as http,
        told.client(http_client=http) as client,
    ):
        whole = client.chat.completions.with_raw_response.create(model="chat-m", messages=HELLO, temperature=0.5)
        stream = list(client.chat.completions.create(model="chat-m", messages=HELLO, stream=True))
    for body in bodies:
        assert faults(interface["input_schema"], json.loads(body)) == []
    assert faults(interface["output_schema"], json.loads(whole.content)) == []
    assert [faults(interface["event_schema"], event.to_dict()) for event in stream] == [[]] * len(stream)
    wrong = json.loads(bodies[0])
    assert faults(interface["input_schema"], wrong | {"messages": "hello"})
    assert faults(interface["input_schema"], {"messages": HELLO})


def faults(schema: dict[str, Any], value: object) -> list[str]:
    return [error.message for error in OAS31Validator(schema).iter_errors(value)]


@pytest.mark.parametrize("path", ["/v1/interfaces", "/v1/interfaces/chat_completion", "/v1/openapi.json"])
def test_if_02_what_has_not_changed_is_not_sent_again(told: Stack, path: str) -> None:
    first = asked(told, path, "chats")
    assert (first.status, first.header("cache-control")) == (200, "private, no-cache")
    tag = first.header("etag") or ""
    for having in (tag, f'"x", W/{tag}', "*"):
        again = asked(told, path, "chats", if_none_match=having)
        assert (again.status, again.body, again.header("etag")) == (304, b"", tag)
    assert asked(told, path, "chats", if_none_match='"x"').body == first.body
    assert asked(told, path, if_none_match=tag).status == 200  # another key is told something else


@pytest.mark.parametrize("name", ["nope", "message", "list_batches", "create_key"])
def test_if_01_what_the_key_may_not_use_does_not_exist(told: Stack, name: str) -> None:
    answer = asked(told, f"/v1/interfaces/{name}", "chats")
    assert_openai_error(answer, 404, code="interface_not_found", param="id", contains=name)


@pytest.mark.slow
def test_if_04_document_of_a_key_is_valid_and_has_its_operations_alone(told: Stack) -> None:
    document = asked(told, "/v1/openapi.json", "chats").json()
    assert sorted(document["paths"]) == [
        "/v1/chat/completions", "/v1/embeddings", "/v1/interfaces", "/v1/interfaces/{interface_id}", "/v1/models",
        "/v1/openapi.json",
    ]  # fmt: skip
    assert [str(error) for error in OpenAPIV31SpecValidator(document).iter_errors()] == []
    assert "/v1/messages" in asked(told, "/v1/openapi.json").json()["paths"]


def test_administrators_are_told_versions_and_for_others_the_url_is_unknown(told: Stack, tmp_path: Path) -> None:
    version = asked(told, "/admin/v1/version", "ops").json()
    assert version["version"] == __version__
    assert version["engines"] == [
        {"engine": "vllm", "version": "0.32.0", "endpoints": 2},
        {"engine": "vllm", "version": "0.33.0", "endpoints": 1},
    ]  # fmt: skip
    with told.client() as client, pytest.raises(openai.NotFoundError) as caught:
        client.get(f"http://127.0.0.1:{told.port}/admin/v1/version", cast_to=object)
    assert_openai_error(caught.value, 404, code="unknown_url")
    documents = [asked(told, "/v1/openapi.json", caller).json()["paths"] for caller in ("ops", "chats")]
    assert ["/admin/v1/version" in paths for paths in documents] == [True, False]
