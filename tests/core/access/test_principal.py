"""What administrators and operators may do, and how their rights travel."""

import pytest

from aibrix_extproc.core.access.principal import Grants, Principal, principal_of
from aibrix_extproc.core.access.signed_caller import SignedCaller, sign, verify
from aibrix_extproc.core.openai.contract.operations import Action, Operation, Role, Router
from aibrix_extproc.core.placing import Caller

KEY = b"k" * 32
OPERATOR = Caller("ops", ("chat-*",), frozenset({"sleep", "load"}), role=Role.OPERATOR, adapters=("a-*",), key_id="k_1")
SLEEP = Operation("sleep", "POST", "/sleep", action=Action.METADATA, role=Role.OPERATOR)
AUDIT = Operation("audit", "GET", "/audit", action=Action.METADATA, role=Role.ADMIN)
CHAT = Operation("chat", "POST", "/chat", action=Action.ROUTE)


@pytest.mark.parametrize(
    ("caller", "seen"),
    [
        (Caller("user"), [CHAT]),
        (Caller("user", operations=frozenset({"sleep", "audit"})), [CHAT]),
        (OPERATOR, [CHAT, SLEEP]),
        (Caller("other", operations=frozenset({"load"}), role=Role.OPERATOR), [CHAT]),
        (Caller("nothing", role=Role.OPERATOR), [CHAT]),
        (Caller("named", operations=frozenset({"audit"}), role=Role.OPERATOR), [CHAT]),
        (Caller("admin", operations=frozenset({"chat"}), role=Role.ADMIN), [CHAT, SLEEP, AUDIT]),
    ],
)
def test_rows_that_a_caller_sees_at_the_gateway_and_at_the_service(caller: Caller, seen: list[Operation]) -> None:
    rows = [CHAT, SLEEP, AUDIT]
    assert [row for row in rows if caller.may_see(row)] == seen
    assert [row for row in rows if principal_of(caller).may_see(row)] == seen


def test_an_operator_may_what_its_lists_name() -> None:
    principal = principal_of(OPERATOR)
    assert principal.may("sleep")
    assert principal.may("sleep", model="chat-m", adapter="a-1")
    assert not principal.may("sleep", model="emb-m")
    assert not principal.may("load", model="chat-m", adapter="b-1")
    assert not principal.may("wake_up")
    assert principal_of(Caller("admin", ("chat-*",), role=Role.ADMIN)).may("wake_up", model="emb-m", adapter="b")
    assert not principal_of(Caller("user")).may("sleep")


def test_rights_travel_signed() -> None:
    grants = principal_of(OPERATOR).grants
    value = sign(KEY, "h", SignedCaller("ops", "r", "sleep", 100, grants=grants))
    found = verify([KEY], "h", value, "sleep", 99)
    assert found is not None
    assert Principal(found.caller, found.grants or Grants(Role.USER)) == principal_of(OPERATOR)


def test_a_row_of_operators_is_no_method_that_others_could_use() -> None:
    router = Router([SLEEP])
    found = router.match("GET", "/sleep")
    assert getattr(found, "key", "") == "unknown_url_outside"
