"""`aibrix-extproc keys note-secret`, on the double of an API server: what it makes, and what it leaves as it is."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aibrix_extproc.adapters.secretfile.source import read_secrets
from aibrix_extproc.cli.main import main
from tests.fakes.kube_api import KubeApiDouble

Captured = pytest.CaptureFixture[str]
NAME = "aibrix-extproc-note-keys"


@pytest.fixture
def api() -> Iterator[KubeApiDouble]:
    """It runs in a thread of its own: the command has an event loop of its own, too."""
    double, loop = KubeApiDouble(), asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    asyncio.run_coroutine_threadsafe(double.start(), loop).result(10)
    yield double
    asyncio.run_coroutine_threadsafe(double.stop(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def run(api: KubeApiDouble, folder: Path, *options: str) -> int:
    return main(["keys", "note-secret", "--kubeconfig", str(api.kubeconfig(folder)), *options])


def key_of(api: KubeApiDouble, namespace: str = "llm") -> str:
    (secret,) = api.objects("secrets", namespace)
    assert secret["metadata"]["name"] == NAME
    found: dict[str, Any] = secret["stringData"]
    assert set(found) == {"keys"}
    return str(found["keys"])


def test_secret_has_a_key_that_our_processes_take_and_nobody_prints(
    api: KubeApiDouble, tmp_path: Path, capsys: Captured
) -> None:
    assert run(api, tmp_path) == 0
    (tmp_path / "keys").write_text(key_of(api))
    (secret,) = read_secrets(tmp_path / "keys")
    assert len(secret) >= 32
    printed = capsys.readouterr()
    assert printed.out == f"the Secret {NAME} in the namespace llm was made\n"
    assert key_of(api) not in printed.out + printed.err


def test_secret_that_is_there_stays_as_it_is_and_is_not_read(
    api: KubeApiDouble, tmp_path: Path, capsys: Captured
) -> None:
    assert run(api, tmp_path) == 0
    before = key_of(api)
    assert run(api, tmp_path) == 0
    assert key_of(api) == before
    assert "is there already" in capsys.readouterr().out
    assert set(api.asked) == {"create secrets"}


def test_each_namespace_gets_a_key_of_its_own(api: KubeApiDouble, tmp_path: Path) -> None:
    assert run(api, tmp_path, "--namespace", "a") == run(api, tmp_path, "--namespace", "b") == 0
    assert key_of(api, "a") != key_of(api, "b")
    assert api.objects("secrets", "llm") == []


def test_account_without_the_right_is_told_the_rule(api: KubeApiDouble, tmp_path: Path, capsys: Captured) -> None:
    api.denied.add("create secrets")
    assert run(api, tmp_path) == 2
    said = capsys.readouterr().err
    assert 'a Role in the namespace llm: {apiGroups: [""], resources: ["secrets"], verbs: ["create"]}' in said


def test_server_that_fails_is_an_error_so_that_the_job_tries_again(
    api: KubeApiDouble, tmp_path: Path, capsys: Captured
) -> None:
    api.failing = 500
    assert run(api, tmp_path) == 2
    assert "aibrix-extproc: scripted" in capsys.readouterr().err
