"""What a key file may say, and the sentence for each thing that it may not."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibrix_extproc.adapters.keyfile.parse import MAX_KEYS, parse_keys
from aibrix_extproc.config_files.errors import SourceFormatError
from aibrix_extproc.core.access.holders import IssuedKey, KeyHolder, digest_of
from aibrix_extproc.core.openai.contract.operations import Role
from aibrix_extproc.core.placing import Caller

SECRET = "sk-this-is-a-key-and-no-hash-0123456789"
HASH = f"sha256:{digest_of('one').hex()}"
KEY = f"{{id: k_1, hash: '{HASH}'}}"

FULL = f"""\
callers:
- name: team-a
  keys:
  - hash: {HASH}
    id: k_3f9a
    created: 2026-11-23
    expires: 2027-01-01T00:00:00Z
    note: laptop
  - hash: SHA256:{digest_of("two").hex().upper()}
    id: k_2
    expires: 2027-01-01
    disabled: true
  models: ["chat-*", "org/*"]
  operations: [chat_completion, embedding]
  admin: false
  engine_controls: True
  labels: {{team: a, 1: 2}}
- name: ann@example.org
  keys: []
  disabled: true
"""


def caller(text: str) -> str:
    return f"callers:\n- name: team-a\n  {text}\n"


def key(text: str) -> str:
    return caller(f"keys:\n  - {text}")


def test_full_file_gives_its_holders() -> None:
    first, second = parse_keys(FULL, "keys.yaml")
    assert first == KeyHolder(
        Caller(
            "team-a",
            models=("chat-*", "org/*"),
            operations=frozenset({"chat_completion", "embedding"}),
            engine_controls=True,
            labels={"team": "a", "1": "2"},
        ),
        (
            IssuedKey("k_3f9a", digest_of("one"), "2026-11-23", 1_798_761_600.0, "laptop"),
            IssuedKey("k_2", digest_of("two"), "", 1_798_761_600.0, disabled=True),
        ),
    )
    assert second == KeyHolder(Caller("ann@example.org"), (), disabled=True)


def test_file_may_let_nobody_in() -> None:
    assert parse_keys("callers: []", "f") == ()


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("2027-01-01", 1_798_761_600),
        ("2027-01-01T00:00:00Z", 1_798_761_600),
        ("2027-01-01 01:00:00+01:00", 1_798_761_600),
        ("'2026-12-31T19:00-05:00'", 1_798_761_600),
        ("2027-01-01T00:00:00.5Z", 1_798_761_600.5),
    ],
)
def test_expiry_is_a_moment(written: str, seconds: float) -> None:
    (holder,) = parse_keys(key(f"{{id: k, hash: '{HASH}', expires: {written}}}"), "f")
    assert holder.keys[0].wall_expires_at == seconds


@pytest.mark.parametrize(
    ("text", "expected"),
    {
        "empty": ("", "keys.yaml: the file is empty; to let nobody in write `callers: []`"),
        "comment": ("# nothing", "keys.yaml: the file is empty"),
        "not-yaml": ("callers: [", "line 2: not YAML: "),
        "tab": ("callers:\n\t- name: a", "keys.yaml, line 2: not YAML: "),
        "two-documents": ("callers: []\n---\ncallers: []", "not YAML: "),
        "html": ("<html>", "line 1: expected fields with values here, got a text"),
        "list": ("- a", "line 1: expected fields with values here, got a list"),
        "no-callers": ("{}", "the field callers is missing"),
        "unknown-top": ("callers: []\nkeys: []", "line 2, keys: unknown field; known here: callers"),
        "callers-text": ("callers: a", "line 1, callers: expected a list here, got a text"),
        "no-name": ("callers:\n- keys: []", "line 2, callers[0]: the field name is missing; write name: team-a"),
        "no-keys": ("callers:\n- name: a", "the field keys is missing; write keys: [], or add one by"),
        "unknown-field": (caller("keys: []\n  model: [a]"), "line 4, callers[0].model: unknown field; known here"),
        "field-twice": (caller("keys: []\n  keys: []"), "line 4, callers[0].keys: given twice, first on line 3"),
        "bad-name": ("callers:\n- name: team a\n  keys: []", "line 2, callers[0].name: a name has up to 64 letters"),
        "long-name": (f"callers:\n- name: {'a' * 65}\n  keys: []", "a name has up to 64"),
        "reserved": ("callers:\n- name: key-1\n  keys: []", "the name is reserved"),
        "anyone": ("callers:\n- name: anyone\n  keys: []", "the name is reserved"),
        "name-twice": (
            "callers:\n- name: a\n  keys: []\n- name: a\n  keys: []",
            "line 4, callers[1].name: the name a is given already on line 2; keep one entry with all its keys",
        ),
        "no-hash": (key("id: k_1"), "line 4, callers[0].keys[0]: the field hash is missing"),
        "no-id": (key(f"hash: {HASH}"), "the field id is missing; write id: k_3f9a"),
        "key-itself": (key(f"id: k_1\n    hash: {SECRET}"), "line 5, callers[0].keys[0].hash: not a hash; write"),
        "key-as-item": (key(SECRET), "line 4, callers[0].keys[0]: expected fields with values here, got a text"),
        "key-field": (key(f"id: k_1\n    key: {SECRET}"), "line 5, callers[0].keys[0].key: unknown field"),
        "short-hash": (key("id: k_1\n    hash: sha256:abc"), "not a hash"),
        "other-hash": (key(f"id: k_1\n    hash: sha512:{'a' * 64}"), "not a hash"),
        "empty-hash": (key("id: k_1\n    hash:"), "expected a text here, got nothing"),
        "hash-twice": (
            caller(f"keys: [{KEY}]") + f"- name: b\n  keys:\n  - id: k_2\n    hash: {HASH.upper()}",
            "line 7, callers[1].keys[0].hash: the hash is given already on line 3; a key has one caller, remove one",
        ),
        "id-twice": (
            caller(f"keys:\n  - {KEY}\n  - id: k_1\n    hash: sha256:{'0' * 64}"),
            "line 5, callers[0].keys[1].id: the id k_1 is given already on line 4; change one",
        ),
        "expires-word": (key(f"{{id: k, hash: '{HASH}', expires: soon}}"), "keys[0].expires: not a time; write it as"),
        "expires-february": (key(f"{{id: k, hash: '{HASH}', expires: 2027-02-30}}"), "not a time"),
        "expires-no-zone": (key(f"{{id: k, hash: '{HASH}', expires: '2027-01-01T00:00:00'}}"), "no zone; add Z"),
        "created-word": (key(f"{{id: k, hash: '{HASH}', created: today}}"), "keys[0].created: not a time"),
        "note-long": (key(f"{{id: k, hash: '{HASH}', note: {'n' * 257}}}"), "at most 256 characters"),
        "note-lines": (key(f'{{id: k, hash: "{HASH}", note: "a\\nb"}}'), "all of them printable"),
        "no-models": (caller("keys: []\n  models: []"), "models: an empty list would allow nothing; leave"),
        "model-text": (caller("keys: []\n  models: chat"), "models: expected a list here, got a text"),
        "operation": (
            caller("keys: []\n  operations: [embedding, chat_completions]"),
            "line 4, callers[0].operations[1]: there is no operation of this name; did you mean chat_completion?",
        ),
        "odd-operation": (
            caller("keys: []\n  operations: [zzzzzz]"),
            "no operation of this name; there are chat_completion, completion, ",
        ),
        "admin-yes": (caller("keys: []\n  admin: yes"), "line 4, callers[0].admin: write true or false"),
        "labels-list": (caller("keys: []\n  labels: [a]"), "labels: expected fields with values here, got a list"),
        "too-many-keys": (caller(f"keys: [{', '.join(['a'] * (MAX_KEYS + 1))}]"), "101 items are too many"),
        "deep": ("[" * 100_000, "nested too deeply"),
    }.values(),
)  # fmt: skip
def test_fault_is_named_with_its_place_and_what_to_do(text: str, expected: str) -> None:
    with pytest.raises(SourceFormatError) as caught:
        parse_keys(text, "keys.yaml")
    assert str(caught.value).startswith("keys.yaml")
    assert expected in str(caught.value)
    assert SECRET not in str(caught.value)


@given(st.text("callersnamekyhi:-[]{}#'\"\n \t&*!|>%@", max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(SourceFormatError):
        parse_keys(text, "f")


@given(st.integers(0, len(FULL) - 1), st.characters(codec="utf-8"))
def test_any_change_of_one_character_is_read_or_refused(index: int, character: str) -> None:
    with suppress(SourceFormatError):
        parse_keys(FULL[:index] + character + FULL[index + 1 :], "f")


def test_roles() -> None:
    entries = (
        "- {name: a, keys: [], role: admin}\n- {name: b, keys: [], admin: true}\n"
        "- {name: c, keys: [], role: operator, operations: [sleep], adapters: [x-*]}\n- {name: d, keys: []}\n"
    )
    callers = [holder.caller for holder in parse_keys(f"callers:\n{entries}", "f")]
    assert [caller.role for caller in callers] == [Role.ADMIN, Role.ADMIN, Role.OPERATOR, Role.USER]
    assert callers[2].adapters == ("x-*",)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("role: boss", "there is no such role; there are user, operator, admin"),
        ("role: operator", "an operator needs the list of its operations"),
        ("role: operator, operations: [sleep], admin: true", "an administrator is no operator"),
        (f"role: operator, operations: [sleep], models: [{', '.join(['x' * 200] * 30)}]", "4000 characters together"),
    ],
)
def test_roles_that_cannot_be(entry: str, message: str) -> None:
    with pytest.raises(SourceFormatError, match=message):
        parse_keys(f"callers:\n- {{name: a, keys: [], {entry}}}\n", "f")
