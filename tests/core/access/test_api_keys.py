"""Keys of the API beside those of the file: changed one by one, and the file comes first."""

import base64
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibrix_extproc.core.access.api_keys import ApiKeys
from aibrix_extproc.core.access.holders import IssuedKey, KeyHolder, digest_of
from aibrix_extproc.core.access.keys import KeyRing
from aibrix_extproc.core.access.records import CallerRecord, HeldKey, KeyRecord
from aibrix_extproc.core.control.rows import Page, Row, Section
from aibrix_extproc.core.control.state import ControlState
from aibrix_extproc.core.openai.contract.errors import Problem
from aibrix_extproc.core.openai.contract.operations import Role
from aibrix_extproc.core.placing import ANYONE, Caller

NOW = 1_000.0
IN_FILE = KeyHolder(Caller("file-team"), (IssuedKey("k_file", digest_of("sk-file")),))


class Site:
    """A ring whose API part tests change."""

    def __init__(self, *holders: KeyHolder, always: Caller | None = None) -> None:
        self.state = ControlState()
        views = self.state.view(Section.CALLERS, CallerRecord), self.state.view(Section.KEYS, HeldKey)
        self.api = ApiKeys(*views, lambda: self.state.complete)
        self.ring = KeyRing(holders, always=always, api=self.api)
        self.version = 0

    def change(self, section: Section, row_id: str, record: object) -> None:
        self.version += 1
        data = None if record is None else msgspec.Raw(msgspec.json.encode(record))
        row = Row(section.value, row_id, self.version, data)
        self.state.apply(Page("h", self.version, (row,), restart=self.version == 1))

    def caller(self, name: str, **fields: object) -> None:
        self.change(Section.CALLERS, name, CallerRecord(**fields))  # type: ignore[arg-type]

    def key(self, key_id: str, caller: str, key: str, **fields: object) -> None:
        self.change(Section.KEYS, key_id, KeyRecord(caller=caller, digest=digest_of(key), **fields))  # type: ignore[arg-type]

    def asked(self, key: str | None, at: float = NOW) -> tuple[str, str] | str:
        answer = self.ring.authenticate(None if key is None else f"Bearer {key}", None, at)
        return answer.key if isinstance(answer, Problem) else (answer.name, answer.key_id)


def test_a_key_lives_from_its_creation_to_its_end() -> None:
    site = Site(IN_FILE)
    assert site.asked("sk-1") == "keys_unknown", "nothing has come yet"
    assert site.asked("sk-file") == ("file-team", "k_file")
    site.caller("ann", models=("chat-*",), role=Role.OPERATOR, operations=("sleep",), adapters=("a",))
    assert site.asked("sk-1") == "invalid_api_key"
    site.key("k_1", "ann", "sk-1", wall_expires_at=NOW + 5)
    site.key("k_2", "ann", "sk-2")
    assert site.asked("sk-1") == ("ann", "k_1")
    assert site.asked("sk-2") == ("ann", "k_2")
    assert site.asked("sk-1", NOW + 5) == "expired_api_key"
    found = site.ring.authenticate("Bearer sk-1", None, NOW)
    assert found == Caller("ann", ("chat-*",), frozenset({"sleep"}), Role.OPERATOR, adapters=("a",))
    site.caller("ann", models=("emb-*",))
    found = site.ring.authenticate("Bearer sk-1", None, NOW)
    assert isinstance(found, Caller)
    assert (found.models, found.role) == (("emb-*",), Role.USER)
    site.key("k_1", "ann", "sk-1", disabled=True)
    assert site.asked("sk-1") == "invalid_api_key"
    site.change(Section.KEYS, "k_2", None)
    assert site.asked("sk-2") == "invalid_api_key"
    assert len(site.ring) == 2


def test_a_disabled_or_removed_caller_closes_its_keys() -> None:
    site = Site()
    site.caller("ann")
    site.key("k_1", "ann", "sk-1")
    assert site.asked("sk-1") == ("ann", "k_1")
    site.caller("ann", disabled=True)
    assert site.asked("sk-1") == "invalid_api_key"
    assert "ann" in site.ring
    site.change(Section.CALLERS, "ann", None)
    assert site.asked("sk-1") == "invalid_api_key"
    assert "ann" not in site.ring
    assert site.ring.named("ann") == Caller("ann")


def test_the_file_decides_over_a_key_and_a_name_that_both_have() -> None:
    site = Site(IN_FILE)
    site.caller("api-team")
    site.caller("file-team", role=Role.ADMIN)
    site.key("k_same", "api-team", "sk-file")
    site.key("k_other", "file-team", "sk-other")
    assert site.asked("sk-file") == ("file-team", "k_file")
    assert site.asked("sk-other") == ("file-team", "k_other")
    assert site.ring.overruled == ("file-team", "k_same")
    assert site.ring.named("file-team") == IN_FILE.caller
    site.key("k_other", "file-team", "sk-other", disabled=True)
    assert site.asked("sk-other") == "invalid_api_key"


def test_a_caller_that_the_file_disables_has_no_good_key() -> None:
    site = Site(replace(IN_FILE, disabled=True))
    site.caller("file-team")
    site.key("k_other", "file-team", "sk-other")
    assert site.asked("sk-other") == "invalid_api_key"


def test_a_gateway_without_keys_knows_those_of_the_api() -> None:
    site = Site(always=ANYONE)
    assert site.asked("sk-1") == ("anyone", "")
    site.caller("ann", role=Role.ADMIN)
    site.key("k_1", "ann", "sk-1")
    assert site.asked("sk-1") == ("ann", "k_1")
    assert site.asked("sk-2") == site.asked(None) == ("anyone", "")


def test_a_digest_that_moves_to_another_key_stays_known() -> None:
    site = Site()
    site.caller("ann")
    site.key("k_1", "ann", "sk-1")
    site.key("k_2", "ann", "sk-1")
    site.change(Section.KEYS, "k_1", None)
    assert site.asked("sk-1") == ("ann", "k_2")
    site.key("k_2", "ann", "sk-2")
    assert site.asked("sk-2") == ("ann", "k_2")
    assert site.asked("sk-1") == "invalid_api_key", "a key that got another digest is not found by the old one"


def test_a_digest_is_base64_in_the_record() -> None:
    encoded = msgspec.json.decode(msgspec.json.encode(KeyRecord(caller="a", digest=b"\x00" * 32)))
    assert base64.b64decode(encoded["digest"]) == b"\x00" * 32


steps = st.lists(
    st.tuples(st.sampled_from(["caller", "key"]), st.integers(0, 2), st.integers(0, 2), st.booleans(), st.booleans()),
    max_size=25,
)


@given(steps)
@pytest.mark.filterwarnings("error")
def test_steps_lead_to_what_the_last_records_say(given_steps: list[tuple[str, int, int, bool, bool]]) -> None:
    site = Site()
    callers: dict[str, CallerRecord] = {}
    keys: dict[str, tuple[str, bool]] = {}
    for kind, one, other, disabled, gone in given_steps:
        if kind == "caller":
            callers.pop(f"c{one}", None)
            if gone:
                site.change(Section.CALLERS, f"c{one}", None)
            else:
                callers[f"c{one}"] = CallerRecord(disabled=disabled)
                site.caller(f"c{one}", disabled=disabled)
        else:
            keys.pop(f"k{one}", None)
            if gone:
                site.change(Section.KEYS, f"k{one}", None)
            else:
                keys[f"k{one}"] = (f"c{other}", disabled)
                site.key(f"k{one}", f"c{other}", f"sk-{one}", disabled=disabled)
        for number in range(3):
            name, off = keys.get(f"k{number}", ("", True))
            passes = not off and name in callers and not callers[name].disabled
            answer = site.asked(f"sk-{number}")
            assert (answer == (name, f"k{number}")) is passes
