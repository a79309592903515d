"""Engines read a body as we do, nobody steers them without the permission, and no credential reaches them."""

import json
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.core.openai.wire.shapes import SHAPES
from tests.dataplane.conftest import KEY
from tests.dataplane.engines import EngineSpec, header
from tests.dataplane.openai_error import assert_openai_error
from tests.dataplane.raw import JSON, Answer, send
from tests.dataplane.scripted import scripted
from tests.dataplane.stack import Stack, running
from tests.waiting import eventually

PATH = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "hello"}]
CREDENTIALS = {
    "api-key": "sk-secret-1", "x-goog-api-key": "sk-secret-2", "cookie": "session=sk-secret-3",
    "proxy-authorization": "Basic sk-secret-4", "ocp-apim-subscription-key": "sk-secret-5",
    "x-auth-token": "sk-secret-6", "x-amz-security-token": "sk-secret-7", "x-litellm-api-key": "sk-secret-8",
    "x-somebodys-access-token": "sk-secret-9", "x-client-secret": "sk-secret-10",
}  # fmt: skip


def ask(stack: Stack, members: str, path: str = PATH, **headers: str) -> Answer:
    body = f'{{"model":"chat-m","messages":{json.dumps(HELLO)},"input":"x","prompt":"x","max_tokens":4,{members}}}'
    sent = {**JSON, "authorization": f"Bearer {KEY}"} | {n.replace("_", "-"): v for n, v in headers.items()}
    return send(stack.port, "POST", path, sent, body.encode())


def seen_by_engine(stack: Stack, marker: str) -> dict[str, Any]:
    (seen,) = [found for engine in stack.engines_of("chat-m") if (found := engine.request(marker))]
    return seen


@pytest.mark.parametrize("path", [PATH, "/v1/completions", "/v1/responses", "/v1/messages"])
@pytest.mark.parametrize("value", ["1", "1.0", "1e0", '"1"', '"true"', '"True"', '"yes"', '"on"', '"t"', '"y"'])
def test_what_vllm_would_take_for_a_stream_is_refused(stack: Stack, path: str, value: str) -> None:
    answer = ask(stack, f'"stream":{value}', path)
    if path == "/v1/messages":
        assert answer.status == 400
        return
    assert_openai_error(answer, 400, code="invalid_type", param="stream")


@pytest.mark.parametrize("members", ['"priority":-100', '"prior\\u0069ty":-100', '"kv_transfer_params":{"a":1}',
                                     '"ec_transfer_params":{}', '"cache_salt":"x"'])  # fmt: skip
def test_steering_an_engine_is_refused(stack: Stack, members: str) -> None:
    assert_openai_error(ask(stack, members), 400, code="unsupported_parameter")


def test_names_for_the_engine_are_taken_out(stack: Stack) -> None:
    marker = str(uuid.uuid4())
    assert ask(stack, '"session_id":"mine","request_id":"mine"', x_marker=marker).status == 200
    seen = json.dumps(seen_by_engine(stack, marker))
    assert "mine" not in seen


def test_no_credential_of_a_client_reaches_an_engine(stack: Stack) -> None:
    marker = str(uuid.uuid4())
    answer = ask(stack, '"n":1', f"{PATH}?api-key=sk-secret-0&trace=1", x_marker=marker, **CREDENTIALS)
    assert answer.status == 200
    seen = seen_by_engine(stack, marker)
    assert "sk-secret" not in json.dumps(seen)
    assert header(seen, "x-marker") == marker


def test_key_may_come_as_azures_clients_send_it(stack: Stack) -> None:
    url = f"http://127.0.0.1:{stack.port}/v1"
    azures = {"api-key": KEY, "Authorization": openai.Omit()}
    with openai.OpenAI(base_url=url, api_key="unused") as client:
        answer = client.chat.completions.create(model="chat-m", messages=HELLO, max_tokens=4, extra_headers=azures)
    assert answer.choices
    assert send(stack.port, "GET", "/v1/models", {"api-key": KEY}).status == 200
    assert_openai_error(send(stack.port, "GET", "/v1/models", {"api-key": "sk-bad"}), 401, code="invalid_api_key")


def test_azures_client_works_with_our_base_url(stack: Stack) -> None:
    """It puts the model into paths as well."""
    url = f"http://127.0.0.1:{stack.port}/v1"
    with openai.AzureOpenAI(base_url=url, api_key=KEY, api_version="2024-10-21", max_retries=0) as client:
        assert client.chat.completions.create(model="chat-m", messages=HELLO, max_tokens=4).choices
        stream = client.chat.completions.create(model="chat-m", messages=HELLO, max_tokens=4, stream=True)
        assert len(list(stream)) > 1
        assert client.completions.create(model="org/chat-s", prompt="hello", max_tokens=4).choices
        assert client.embeddings.create(model="emb-m", input="hello").data
        assert client.responses.create(model="chat-m", input="hello", max_output_tokens=4).output
        assert len(client.models.list().data) > 1


@pytest.fixture(scope="module")
def two_models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The engine of the large model takes bodies without reading them, which is dearer than all that happens here."""
    text = b'{"object":"chat.completion","choices":[]}'
    taken = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(text) + text
    patient = ("--server-max-message-timeout-seconds", "60")  # as of `local`, for machines that have other work
    made = Stack(tmp_path_factory.mktemp("two"), (EngineSpec("small", ("chat-s",)),), serve_arguments=patient)
    with scripted({"": taken}, "chat-l") as port, running(made) as stack:
        stack.adopt_engine(EngineSpec("large", ("chat-l",)), port)
        stack.write_fleet()
        stack.wait_models({"chat-l", "chat-s"})
        yield stack


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["keys of options", "nested arrays", "mixed characters"])
def test_fifty_megabytes_of_a_client_hold_up_nobody(two_models: Stack, shape: str) -> None:
    """A body that is dear to read, while others ask small things."""
    stack = two_models
    body = SHAPES[shape](50_000_000).replace(b'"model":"m"', b'"model":"chat-l"', 1)
    small = json.dumps({"model": "chat-s", "messages": HELLO, "max_tokens": 1}).encode()
    before = resident_mib(stack.workers[0].child.pid)
    answers: list[int] = []

    def passes() -> bool:
        """A busy machine may take longer to read it than the gateway has time, which is a 503."""
        with ThreadPoolExecutor(1) as pool:
            large = pool.submit(send, stack.port, "POST", PATH, JSON, body, timeout=180.0)
            while not wait((large,), timeout=0.02).done:
                answers.append(send(stack.port, "POST", PATH, JSON, small).status)
        assert large.result().status in (200, 503), large.result()
        return large.result().status == 200

    eventually(passes, "it passes")
    assert len(answers) > 3
    assert set(answers) == {200}
    assert resident_mib(stack.workers[0].child.pid) - before < 120


def resident_mib(pid: int) -> float:
    """The most that a process has had in memory."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024
