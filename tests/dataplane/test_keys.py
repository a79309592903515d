"""Acceptance 7.1, AUTH-07: callers of a key file, through a real Envoy: what each may see and use."""

from collections.abc import Callable, Iterator
from pathlib import Path

import openai
import pytest

from aibrix_extproc.adapters.keyfile.source import read_keys
from aibrix_extproc.cli.main import main
from aibrix_extproc.core.access.holders import digest_of
from tests.dataplane.engines import EngineSpec
from tests.dataplane.openai_error import assert_openai_error
from tests.dataplane.raw import JSON
from tests.dataplane.stack import Stack, running
from tests.waiting import eventually

STATIC_KEY = "sk-static-0123456789abcdefghij"
HELLO = [{"role": "user", "content": "hello"}]
FLEET = (EngineSpec("chat", ("chat-m", "org/chat-s")), EngineSpec("emb", ("emb-m",), ("--task", "embed")))
MODELS = {"chat-m", "org/chat-s", "emb-m"}

NewKey = Callable[..., str]


@pytest.fixture(scope="module")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "keys.yaml"
    path.write_text("# Teams.\ncallers: []\n")
    return path


@pytest.fixture(scope="module")
def keyed(key_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack that follows a key file; its own key may do everything."""
    arguments = ("--key-file", str(key_file))
    stack = Stack(tmp_path_factory.mktemp("keyed"), FLEET, api_keys=(STATIC_KEY,), serve_arguments=arguments)
    with running(stack) as started:
        yield started


@pytest.fixture
def new_key(keyed: Stack, key_file: Path, capsys: pytest.CaptureFixture[str]) -> NewKey:
    """Makes a key as an operator does, and waits until the gateway knows it."""

    def make(caller: str, *options: str) -> str:
        assert main(["keys", "new", "--file", str(key_file), "--caller", caller, *options]) == 0
        key = capsys.readouterr().out.strip()
        eventually(lambda: status_of(keyed, key) != 401, "the new key is known")
        return key

    return make


def status_of(stack: Stack, key: str) -> int:
    return stack.send("GET", "/v1/models", headers={"authorization": f"Bearer {key}"}).status


def usable(client: openai.OpenAI, model: str) -> bool:
    """Whether the model answers; a refusal must be that of a model that does not exist."""
    try:
        if model == "emb-m":
            client.embeddings.create(model=model, input="hello")
        else:
            client.chat.completions.create(model=model, messages=HELLO, max_tokens=2)
    except openai.NotFoundError as error:
        assert_openai_error(error, 404, code="model_not_found", contains="does not exist")
        return False
    return True


def retrievable(client: openai.OpenAI, model: str) -> bool:
    try:
        return bool(client.models.retrieve(model).id == model)
    except openai.NotFoundError as error:
        assert_openai_error(error, 404, code="model_not_found")
        return False


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [("chat-*", {"chat-m"}), ("org/*,emb-m", {"org/chat-s", "emb-m"}), ("nothing-*", set()), (None, MODELS)],
    ids=["one", "two", "none", "all"],
)
def test_auth_07_list_retrieve_and_use_agree_on_the_models_of_a_caller(
    keyed: Stack, new_key: NewKey, patterns: str | None, expected: set[str]
) -> None:
    key = new_key(f"models-{len(expected)}", *(("--models", patterns) if patterns else ()))
    with keyed.client(api_key=key) as client:
        assert {card.id for card in client.models.list()} == expected
        assert {model for model in MODELS if retrievable(client, model)} == expected
        assert {model for model in MODELS if usable(client, model)} == expected


def test_auth_07_operation_that_a_caller_may_not_use_is_a_403(keyed: Stack, new_key: NewKey) -> None:
    key = new_key("only-chat", "--operations", "chat_completion,list_models")
    with keyed.client(api_key=key) as client:
        assert usable(client, "chat-m")
        with pytest.raises(openai.PermissionDeniedError) as caught:
            client.embeddings.create(model="emb-m", input="hello")
        assert_openai_error(caught.value, 403, code="permission_denied", contains="POST /v1/embeddings")
    hidden = keyed.send("POST", "/v1/load_lora_adapter", b"{}", {"authorization": f"Bearer {key}"})
    assert_openai_error(hidden, 404)


@pytest.mark.parametrize("path", ["/sleep?level=1", "/pause", "/v1/load_lora_adapter", "/collective_rpc"])
def test_auth_10_an_administrators_key_reaches_no_administration_either(
    keyed: Stack, new_key: NewKey, path: str
) -> None:
    key = new_key(f"operators-{path.strip('/').partition('?')[0].replace('/', '-')}", "--admin", "--engine-controls")
    answer = keyed.send("POST", path, b'{"model": "chat-m"}', JSON | {"authorization": f"Bearer {key}"})
    assert_openai_error(answer, 404)
    assert keyed.engine("chat").requests(path.partition("?")[0]) == []


def test_revoked_key_is_refused_while_the_next_one_of_its_caller_works(
    keyed: Stack, new_key: NewKey, key_file: Path
) -> None:
    old, new = new_key("rotating"), new_key("rotating")
    keys = [key for holder in read_keys(key_file) for key in holder.keys]
    (old_id,) = (key.id for key in keys if key.digest == digest_of(old))
    assert main(["keys", "revoke", "--file", str(key_file), old_id]) == 0
    eventually(lambda: status_of(keyed, old) == 401, "the revoked key is refused")
    assert status_of(keyed, new) == 200


def test_expired_key_is_refused_by_status_and_code(keyed: Stack, new_key: NewKey, key_file: Path) -> None:
    key = new_key("for-a-time", "--expires", "2999-01-01")
    key_file.write_text(key_file.read_text().replace("2999-01-01", "2020-01-01"))
    eventually(lambda: status_of(keyed, key) == 401, "the key is over")
    with pytest.raises(openai.AuthenticationError) as caught, keyed.client(api_key=key) as client:
        client.models.list()
    error = assert_openai_error(caught.value, 401, code="invalid_api_key", contains="Incorrect API key")
    assert key not in error["message"]


def test_broken_edit_lets_in_whom_it_did_and_a_restart_with_it_lets_in_nobody(
    keyed: Stack, new_key: NewKey, key_file: Path
) -> None:
    key = new_key("lasting")
    good = key_file.read_text()
    try:
        key_file.write_text(good + "- name: [\n")
        eventually(lambda: keyed.worker.total("aibrix_extproc_key_file_ok") == 0, "the metric shows the broken file")
        health = keyed.worker.admin("/readyz")
        assert health.status == 200
        assert "not YAML" in health.json()["keys"]["error"]
        assert status_of(keyed, key) == 200

        keyed.worker.child.kill()
        keyed.restart_worker()
        health = keyed.worker.admin("/readyz")
        assert (health.status, health.json()["keys"]["known"]) == (503, False)
        for refused in (key, STATIC_KEY, "sk-other"):
            assert status_of(keyed, refused) == 503
    finally:
        key_file.write_text(good)
    eventually(lambda: status_of(keyed, key) == 200, "the mended file is read")
    assert keyed.worker.total("aibrix_extproc_key_file_ok") == 1
    assert status_of(keyed, "sk-other") == 401
