"""Keys added and taken out by text: all the rest of the file stays as it was, byte by byte."""

import difflib
import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibrix_extproc.adapters.keyfile.edit import with_key, without_key
from aibrix_extproc.adapters.keyfile.lines import NEW_FILE
from aibrix_extproc.adapters.keyfile.parse import parse_keys
from aibrix_extproc.config_files.errors import SourceFormatError, SourceLookupError
from aibrix_extproc.core.access.holders import IssuedKey, digest_of
from aibrix_extproc.core.openai.contract.operations import Role
from aibrix_extproc.core.placing import Caller

H1, H2 = (f"sha256:{digest_of(key).hex()}" for key in ("one", "two"))
NEW = IssuedKey("k_new", digest_of("new"), created="2026-11-23", wall_expires_at=1_798_761_600.0, note="it's: new # 1")
LATER = IssuedKey("k_later", digest_of("later"), created="2026-11-24")

# Ways in which people write the same file.
TEXTS = {
    "as-documented": f"""\
# Who may call.
callers:
- name: team-a   # the first
  keys:
  - hash: {H1}
    id: k_1
    note: laptop  # of Ann
  # a comment at the end of the keys
  models: ["chat-*", 'org/*']

# The second team.
- name: team-b
  labels: {{team: b}}
  keys:
    - id: k_2
      hash: "{H2}"
      note: |
        several
# the end
""".replace("note: |\n        several", "note: 'several'"),
    "indented": f"callers:\n    -   name: team-a\n        keys:\n            -   hash: {H1}\n                id: k_1\n",
    "no-last-line-end": f"callers:\n- keys:\n  - id: k_1\n    hash: {H1}\n  name: team-a",
    "no-last-line-end-after-keys": f"callers:\n- name: team-a\n  keys:\n  - id: k_1\n    hash: {H1}",
    "no-keys-yet": "callers:\n- name: team-a\n  keys: []  # none yet\n  role: admin\n",
    "windows": f"callers:\r\n- name: team-a\r\n  keys:\r\n  - id: k_1\r\n    hash: {H1}\r\n  role: admin\r\n",
    "dashes-alone": f"callers:\n-\n  name: team-a\n  keys:\n  -\n    id: k_1\n    hash: {H1}\n",
    "comments-before-items": f"callers:\n- name: team-a\n  keys:  # b\n  # c\n  - id: k_1\n    hash: {H1}\n  # d\n",
    "nobody": "callers: []\n",
    "new": NEW_FILE,
    "document-marks": f"---\ncallers:\n- name: team-a\n  keys:\n  - id: k_1\n    hash: {H1}\n...\n",
}  # fmt: skip

# Forms that are left to their operator.
IN_BRACKETS = {
    "flow-keys": f"callers:\n- name: team-a\n  keys: [{{id: k_1, hash: '{H1}'}}]\n  admin: false\n",
    "flow-lines": f"callers: [\n  {{name: team-a, keys: [\n    {{id: k_1, hash: '{H1}'}},\n  ]}},\n]\n",
    "json": f'{{"callers": [{{"name": "team-a", "keys": [{{"id": "k_1", "hash": "{H1}"}}]}}]}}\n',
}


def lost_and_gained(before: str, after: str) -> tuple[list[str], list[str]]:
    """Whole lines; `difflib` finds no moves, so order counts."""
    steps = list(difflib.ndiff(before.splitlines(), after.splitlines()))
    return [one[2:] for one in steps if one[0] == "-"], [one[2:] for one in steps if one[0] == "+"]


@pytest.mark.parametrize("name", ["team-a", "team-new"])
@pytest.mark.parametrize("style", TEXTS)
def test_key_is_added_to_a_file_of_any_style(style: str, name: str) -> None:
    before = parse_keys(TEXTS[style], "f")
    after = parse_keys(with_key(TEXTS[style], "f", Caller(name), NEW), "f")
    holder = next(holder for holder in after if holder.caller.name == name)
    assert holder.keys[-1] == NEW
    assert {one.caller.name for one in after} == {one.caller.name for one in before} | {name}


@pytest.mark.parametrize("style", [style for style, text in TEXTS.items() if "[" not in text.replace('["chat', "")])
def test_key_that_is_added_takes_no_other_line_away(style: str) -> None:
    lost, gained = lost_and_gained(TEXTS[style], with_key(TEXTS[style], "f", Caller("team-a"), NEW))
    assert lost == []
    assert len(gained) == 5


@pytest.mark.parametrize("style", [style for style, text in TEXTS.items() if "k_1" in text])
def test_key_is_removed_from_a_file_of_any_style(style: str) -> None:
    after = parse_keys(without_key(TEXTS[style], "f", "k_1"), "f")
    assert [holder.caller.name for holder in after][:1] == ["team-a"]
    assert after[0].keys == ()


@pytest.mark.parametrize("style", TEXTS)
def test_key_added_and_removed_leaves_the_text_as_it_was(style: str) -> None:
    text = with_key(TEXTS[style], "f", Caller("team-a"), LATER)  # so that the lists are open
    assert without_key(with_key(text, "f", Caller("team-a"), NEW), "f", NEW.id) == text


def test_added_lines_look_like_the_documented_form() -> None:
    caller = Caller(
        "team-b",
        ("chat-*", "org/*"),
        frozenset({"embedding", "chat_completion"}),
        role=Role.ADMIN,
        engine_controls=True,
    )
    assert with_key(NEW_FILE, "f", caller, NEW).split("\n", 1)[1] == (
        "callers:\n"
        "- name: team-b\n"
        "  keys:\n"
        f"  - hash: sha256:{NEW.digest.hex()}\n"
        "    id: k_new\n"
        "    created: 2026-11-23\n"
        "    expires: 2027-01-01T00:00:00Z\n"
        '    note: "it\'s: new # 1"\n'
        '  models: ["chat-*", "org/*"]\n'
        "  operations: [\"chat_completion\", \"embedding\"]\n"
        "  role: admin\n"
        "  engine_controls: true\n"
    )  # fmt: skip


def test_removal_of_an_unknown_id_says_where_ids_are_listed() -> None:
    with pytest.raises(SourceLookupError, match="no key with the id k_9; see `aibrix-extproc keys list`"):
        without_key(TEXTS["as-documented"], "f", "k_9")


@pytest.mark.parametrize("style", IN_BRACKETS)
def test_file_with_lists_in_brackets_is_left_alone_and_the_lines_are_shown(style: str) -> None:
    with pytest.raises(
        SourceFormatError, match="nothing was changed, add this to the keys of team-a by hand:"
    ) as added:
        with_key(IN_BRACKETS[style], "f", Caller("team-a"), NEW)
    lines = str(added.value).partition(":\n")[2]
    (shown,) = parse_keys(f"callers:\n- name: team-a\n  keys:\n{textwrap.indent(lines, '  ')}", "f")
    assert shown.keys == (NEW,)
    with pytest.raises(SourceFormatError, match="nothing was changed, remove the key k_1 of team-a by hand"):
        without_key(IN_BRACKETS[style], "f", "k_1")


def test_caller_for_a_list_in_brackets_is_shown_with_its_permissions() -> None:
    caller = Caller("team-b", ("chat-*",), role=Role.ADMIN)
    with pytest.raises(SourceFormatError, match="add this to callers by hand") as refused:
        with_key('{"callers": []}', "f", caller, NEW)
    (shown,) = parse_keys("callers:\n" + str(refused.value).partition(":\n")[2], "f")
    assert (shown.caller, shown.keys) == (caller, (NEW,))


def test_file_that_cannot_be_edited_safely_is_refused_with_the_lines_to_add() -> None:
    text = f"callers:\n- name: team-a\n  keys: &shared\n  - id: k_1\n    hash: {H1}\n- {{name: team-b, keys: &b [] }}\n"
    assert parse_keys(text, "f")
    with pytest.raises(SourceFormatError, match=r"cannot be edited safely; nothing was changed, add this") as caught:
        with_key(text.replace("keys: &b []", "keys: &b\n  [ # odd ]\n  ]"), "f", Caller("team-b"), NEW)
    assert f"sha256:{NEW.digest.hex()}" in str(caught.value)


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.text("ab: #'\"{}[]é,-", max_size=12)), min_size=1, max_size=8),
    st.data(),
)
def test_any_order_of_edits_keeps_what_was_meant(added: list[tuple[str, str]], data: st.DataObject) -> None:
    text, meant = NEW_FILE, {}
    for number, (name, note) in enumerate(added):
        key = IssuedKey(f"k_{number}", digest_of(str(number)), created="2026-11-23", note=note.strip())
        text = with_key(text, "f", Caller(f"team-{name}"), key)
        meant[key.id] = (f"team-{name}", key)
        if data.draw(st.booleans()):
            gone = data.draw(st.sampled_from(sorted(meant)))
            text = without_key(text, "f", gone)
            del meant[gone]
    found = {key.id: (holder.caller.name, key) for holder in parse_keys(text, "f") for key in holder.keys}
    assert found == meant
