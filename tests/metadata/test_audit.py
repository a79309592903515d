"""The audit: nothing that an operator changes goes unrecorded, and only administrators read it."""

import pytest

from aibrix_extproc.adapters.ledger.audit import AuditLedger
from aibrix_extproc.adapters.ledger.database import Database
from aibrix_extproc.adapters.openai_http.call import Call, Handler, Reply, refuse
from aibrix_extproc.app.metadata import audit
from aibrix_extproc.app.metadata.audit import audited
from aibrix_extproc.core.access.principal import Grants, Principal
from aibrix_extproc.core.openai.contract.operations import Role
from tests.metadata.conftest import Service

ADMIN = Grants(Role.ADMIN, "k_1")
OPERATOR = Grants(Role.OPERATOR, "k_2", ("list_audit", "sleep"))


@pytest.fixture
def ledger(database: Database) -> AuditLedger:
    return AuditLedger(database)


def a_call(name: str = "ann") -> Call:
    # Handlers of these tests do not look at the request.
    return Call(Principal(name, ADMIN), "r-1", {"id": "x"}, {"q": "1"}, None, 1.0)  # type: ignore[arg-type]


async def results(ledger: AuditLedger) -> list[tuple[str, str, bytes, str]]:
    found, _ = await ledger.page(before=None, limit=10)
    return [(one.caller, one.operation, bytes(one.target), one.result) for one in found]


async def test_success_refusal_and_failure_are_recorded_with_their_target(
    ledger: AuditLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def good(call: Call) -> Reply:
        assert (await results(ledger))[0][3] == "started"
        call.target["more"] = 2
        return Reply({})

    async def refused(_: Call) -> Reply:
        raise refuse("not_found", message="no")

    async def broken(_: Call) -> Reply:
        raise ValueError

    monkeypatch.setattr(audit, "_AUDITED", frozenset({"good", "refused", "broken"}))
    given: dict[str, Handler] = {"good": good, "refused": refused, "broken": broken, "read": good}
    handlers = audited(ledger, given)
    assert handlers["read"] is good
    await handlers["good"](a_call())
    for name in ("refused", "broken"):
        with pytest.raises(Exception):  # noqa: B017, PT011 (any: it passes as it came)
            await handlers[name](a_call("bob"))
    plain = b'{"q":"1","id":"x"}'
    assert await results(ledger) == [
        ("bob", "broken", plain, "failed"),
        ("bob", "refused", plain, "not_found"),
        ("ann", "good", b'{"q":"1","id":"x","more":2}', "ok"),
    ]


async def test_pages_filters_and_age(ledger: AuditLedger) -> None:
    for number in range(5):
        await ledger.begin("ann" if number % 2 else "bob", "k", "sleep", {"n": number}, "r")
    first, more = await ledger.page(before=None, limit=2)
    rest, end = await ledger.page(before=first[-1].id, limit=10)
    assert [bytes(one.target) for one in (*first, *rest)] == [b'{"n":%d}' % number for number in (4, 3, 2, 1, 0)]
    assert (more, end) == (True, False)
    assert len((await ledger.page(before=None, limit=9, caller="ann"))[0]) == 2
    assert (await ledger.page(before=None, limit=9, operation="wake_up"))[0] == []
    assert await ledger.forget(3600) == 0
    assert await ledger.forget(-1) == 5


async def test_a_long_target_is_cut(ledger: AuditLedger) -> None:
    await ledger.begin("ann", "k", "sleep", {"x": "é" * 10_000}, "r")
    (entry,), _ = await ledger.page(before=None, limit=1)
    assert len(bytes(entry.target)) < 9000


async def test_only_an_administrator_reads_it(service: Service) -> None:
    await AuditLedger(service.database).begin("ann", "k", "sleep", {"n": 1}, "r")
    async with service.http("ann", ADMIN) as client:
        listed = (await client.get("/admin/v1/audit")).json()
        assert [(one["caller"], one["target"]) for one in listed["data"]] == [("ann", {"n": 1})]
        for query in ("after=x", "after=-1", "limit=0", "limit=100000", "order=up"):
            assert (await client.get(f"/admin/v1/audit?{query}")).status_code == 400
    for grants in (None, OPERATOR):
        async with service.http("ann", grants) as client:
            hidden, unknown = await client.get("/admin/v1/audit"), await client.get("/admin/v1/nothing")
            assert hidden.status_code == unknown.status_code == 404
            assert hidden.text.replace("audit", "nothing") == unknown.text
