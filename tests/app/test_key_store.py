"""Who may call at this moment, and what an operation's permission is worth."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from pydantic import SecretStr

from aibrix_extproc.app.authenticator import Authenticator
from aibrix_extproc.app.parts.keys import KeyStore
from aibrix_extproc.config_files.errors import SourceError
from aibrix_extproc.config_files.file import Pace
from aibrix_extproc.core.access.holders import IssuedKey, KeyHolder, digest_of
from aibrix_extproc.core.access.keys import KeyRing
from aibrix_extproc.core.exchange import asks
from aibrix_extproc.core.exchange.asks import Authenticate
from aibrix_extproc.core.openai.contract.errors import Problem
from aibrix_extproc.core.openai.contract.operation_rows import OPERATIONS
from aibrix_extproc.core.openai.contract.operations import Action, Operation, Role
from aibrix_extproc.core.placing import ANYONE, Caller
from aibrix_extproc.settings import AccessSettings
from tests.build import an_operation
from tests.waiting import until

FAST = Pace(poll_seconds=0.01, settle_seconds=0.01, retry_seconds=0.01)
FILE_KEY, STATIC_KEY = "sk-of-the-file", "sk-of-a-flag"
NOW = 1_800_000_000.0


def content(fields: str = "") -> str:
    return f"callers:\n- name: team-a\n  keys:\n  - id: k_1\n    hash: sha256:{digest_of(FILE_KEY).hex()}\n{fields}"


def asked(store: KeyStore, key: str) -> str:
    """The caller's name, or the row of the refusal."""
    answer = store.ring.authenticate(f"Bearer {key}", None, NOW)
    return answer.key if isinstance(answer, Problem) else answer.name


def write(path: Path, text: str) -> None:
    path.write_text(text)


@asynccontextmanager
async def following(path: Path) -> AsyncIterator[KeyStore]:
    """A store that watches a file and has one static key."""
    store = KeyStore(AccessSettings(api_keys=(SecretStr(STATIC_KEY),), key_file=path), pace=FAST)
    task = asyncio.ensure_future(store.run())
    try:
        yield store
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.yaml"


async def test_store_without_keys_lets_everyone_in_at_once() -> None:
    store = KeyStore(AccessSettings())
    await store.run()
    assert store.known
    assert store.status is None
    assert store.ring.authenticate(None, None, NOW) == ANYONE


async def test_store_with_static_keys_only_lets_them_in_at_once() -> None:
    store = KeyStore(AccessSettings(api_keys=(SecretStr(STATIC_KEY),)))
    assert store.known
    assert (asked(store, STATIC_KEY), asked(store, FILE_KEY)) == ("key-1", "invalid_api_key")


async def test_store_whose_file_was_never_good_lets_nobody_in_until_it_is(path: Path) -> None:
    write(path, "callers: [")
    async with following(path) as store:
        await until(lambda: "not YAML" in str(store.report()["error"]))
        assert not store.known
        assert (asked(store, FILE_KEY), asked(store, STATIC_KEY)) == ("keys_unknown", "keys_unknown")
        write(path, content())
        async with asyncio.timeout(60):
            await store.wait_known()
        assert (asked(store, FILE_KEY), asked(store, STATIC_KEY)) == ("team-a", "key-1")
        await until(lambda: store.report()["ok"] is True)


async def test_store_keeps_the_last_keys_through_a_broken_edit_and_reports_it(path: Path) -> None:
    write(path, content())
    async with following(path) as store:
        await store.wait_known()
        write(path, "nonsense")
        await until(lambda: store.report()["ok"] is False)
        assert asked(store, FILE_KEY) == "team-a"
        report = store.report()
        assert (report["known"], report["callers"], report["keys"]) == (True, 2, 2)
        assert str(path) in str(report["error"])


async def test_file_without_callers_lets_nobody_of_it_in(path: Path) -> None:
    write(path, content())
    async with following(path) as store:
        await store.wait_known()
        write(path, "callers: []\n")
        await until(lambda: asked(store, FILE_KEY) == "invalid_api_key")
        assert asked(store, STATIC_KEY) == "key-1"


async def test_key_that_is_in_the_file_too_is_what_the_file_says(path: Path) -> None:
    write(path, content("  disabled: true\n").replace(digest_of(FILE_KEY).hex(), digest_of(STATIC_KEY).hex()))
    async with following(path) as store:
        await store.wait_known()
        assert asked(store, STATIC_KEY) == "invalid_api_key"


def admitted(caller: Caller, operation: Operation | None) -> asks.Answer:
    holder = KeyHolder(caller, (IssuedKey("k_1", digest_of(FILE_KEY), wall_expires_at=NOW + 1),))
    authenticator = Authenticator(lambda: KeyRing([holder]), lambda: NOW)
    return authenticator.authenticate(Authenticate(operation, f"Bearer {FILE_KEY}", None))


ONLY_CHAT = Caller("team-a", operations=frozenset({"chat_completion"}))


def test_caller_comes_with_the_id_of_its_key() -> None:
    found = admitted(ONLY_CHAT, None)
    assert isinstance(found, asks.Admitted)
    assert found.caller.key_id == "k_1"


@pytest.mark.parametrize("operation", ["chat_completion", None])
def test_operation_that_is_allowed_or_unknown_passes(operation: str | None) -> None:
    row = None if operation is None else an_operation(operation)
    assert admitted(ONLY_CHAT, row) == asks.Admitted(ONLY_CHAT)


@pytest.mark.parametrize("operation", ["embedding", "list_models", "create_file", "retrieve_response"])
def test_operation_that_is_not_allowed_is_a_403_that_names_it(operation: str) -> None:
    row = an_operation(operation)
    answer = admitted(ONLY_CHAT, row)
    assert isinstance(answer, asks.Refused)
    assert (answer.problem.key, answer.problem.http_status) == ("permission_denied", 403)
    assert answer.problem.values == {"what": f"{row.method} {row.path}"}


@pytest.mark.parametrize("row", [row for row in OPERATIONS if row.action in (Action.ADMIN, Action.REFUSE)])
def test_permission_does_not_tell_that_an_unserved_url_exists(row: Operation) -> None:
    assert admitted(ONLY_CHAT, row) == asks.Admitted(ONLY_CHAT)


async def test_everyone_nobody_and_holders_are_told_apart_at_start_and_on_the_page(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = KeyStore(AccessSettings())
    assert store.report()["who"] == "everyone"
    await store.run()
    assert "no keys are configured: everyone" in caplog.text
    caplog.clear()
    store = KeyStore(AccessSettings(api_keys=(SecretStr(STATIC_KEY),)))
    await store.run()
    assert store.report()["who"] == "holders of keys"
    assert caplog.text == ""

    path = tmp_path / "keys.yaml"
    path.write_text("callers: []\n")
    store = KeyStore(AccessSettings(key_file=path), pace=FAST)
    assert store.report()["who"] == "nobody"
    task = asyncio.ensure_future(store.run())
    try:
        await until(lambda: store.known)
        assert store.report()["who"] == "nobody"
        assert "the key file holds no key: nobody is let in" in caplog.text
        path.write_text(content())
        await until(lambda: store.report()["who"] == "holders of keys")
    finally:
        task.cancel()


def test_an_administrators_key_counts_where_no_keys_are_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "admin-key"
    path.write_text(f"sk-{'x' * 40}\n")
    store = KeyStore(AccessSettings(admin_key_file=path))
    assert store.report()["who"] == "everyone"
    admin = store.ring.authenticate(f"Bearer sk-{'x' * 40}", None, NOW)
    assert isinstance(admin, Caller)
    assert (admin.name, admin.role) == ("local-admin", Role.ADMIN)
    for other in (None, "Bearer any", f"Bearer sk-{'y' * 40}"):
        assert store.ring.authenticate(other, None, NOW) == ANYONE
    path.write_text("short\n")
    with pytest.raises(SourceError, match="32 characters"):
        KeyStore(AccessSettings(admin_key_file=path))
