"""Callers, keys, limits and cordons over the API, on both databases."""

import json
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from aibrix_extproc.adapters.ledger.control import ControlLedger
from aibrix_extproc.core.access.holders import digest_of
from aibrix_extproc.core.access.principal import Grants
from aibrix_extproc.core.access.records import KeyRecord
from aibrix_extproc.core.control.rows import Section
from aibrix_extproc.core.openai.contract.operations import Role
from tests.metadata.conftest import Service

ADMIN = Grants(Role.ADMIN, "k_1")
CALLERS, KEYS, LIMITS, CORDONS = (f"/admin/v1/{name}" for name in ("callers", "keys", "limits", "cordons"))


@pytest.fixture
async def admin(service: Service) -> AsyncIterator[httpx2.AsyncClient]:
    async with service.http("root", ADMIN) as client:
        yield client


async def made(client: httpx2.AsyncClient, path: str, body: object) -> dict[str, Any]:
    answer = await client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_a_key_is_shown_once_and_stored_as_a_hash(service: Service, admin: httpx2.AsyncClient) -> None:
    await made(admin, CALLERS, {"name": "team-a", "models": ["chat-*"], "labels": {"cost": "7"}})
    key = await made(admin, KEYS, {"caller": "team-a", "note": "laptop", "expires_in": 3600})
    secret = key.pop("key")
    assert secret.startswith("sk-")
    assert len(secret) > 45
    assert key["hash"] == f"sha256:{digest_of(secret).hex()}"
    assert key["hint"] == f"...{secret[-4:]}"
    again = (await admin.get(f"{KEYS}/{key['id']}")).json()
    assert again == key
    row = await ControlLedger(service.database).get(Section.KEYS, key["id"])
    assert row is not None
    assert secret.encode() not in bytes(row.data or b"")
    everything = [path for path in service.folder.parent.rglob("*") if path.is_file()]
    assert not any(secret.encode() in path.read_bytes() for path in everything)


async def test_rotation_overlaps_and_revocation_ends(service: Service, admin: httpx2.AsyncClient) -> None:
    await made(admin, CALLERS, {"name": "team-a"})
    old = await made(admin, KEYS, {"caller": "team-a", "note": "n", "labels": {"a": "b"}})
    new = await made(admin, f"{KEYS}/{old['id']}/rotate", {"overlap_seconds": 60})
    assert (new["replaces"], new["note"], new["labels"], new["expires_at"]) == (old["id"], "n", {"a": "b"}, None)
    assert new["key"] != old["key"]
    was = (await admin.get(f"{KEYS}/{old['id']}")).json()
    assert was["expires_at"] == new["replaced_expires_at"]
    assert abs(was["expires_at"] - service.clock() - 60) < 1000
    # A second rotation of the old one does not prolong it.
    third = await made(admin, f"{KEYS}/{old['id']}/rotate", {"overlap_seconds": 6000})
    assert third["replaced_expires_at"] == was["expires_at"]
    assert (await admin.delete(f"{KEYS}/{old['id']}")).json()["deleted"]
    assert (await admin.get(f"{KEYS}/{old['id']}")).status_code == 404
    assert (await admin.delete(f"{KEYS}/{old['id']}")).status_code == 404


async def test_changes_leave_the_rest_as_it_is(admin: httpx2.AsyncClient) -> None:
    await made(admin, CALLERS, {"name": "a", "models": ["x"], "note": "n"})
    changed = await made(admin, f"{CALLERS}/a", {"disabled": True})
    assert (changed["models"], changed["note"], changed["disabled"]) == (["x"], "n", True)
    assert (await made(admin, f"{CALLERS}/a", {"models": None}))["models"] is None
    key = await made(admin, KEYS, {"caller": "a", "expires_in": 60, "note": "n"})
    changed = await made(admin, f"{KEYS}/{key['id']}", {"disabled": True})
    assert (changed["note"], changed["disabled"], changed["expires_at"]) == ("n", True, key["expires_at"])
    assert (await made(admin, f"{KEYS}/{key['id']}", {"expires_at": None}))["expires_at"] is None


async def test_callers_and_keys_are_listed_in_pages(admin: httpx2.AsyncClient) -> None:
    for name in ("c", "a", "b"):
        await made(admin, CALLERS, {"name": name})
        await made(admin, KEYS, {"caller": name})
    first = (await admin.get(f"{CALLERS}?limit=2")).json()
    assert ([one["name"] for one in first["data"]], first["has_more"]) == (["a", "b"], True)
    rest = (await admin.get(f"{CALLERS}?limit=2&after={first['last_id']}")).json()
    assert ([one["name"] for one in rest["data"]], rest["has_more"]) == (["c"], False)
    assert [one["caller"] for one in (await admin.get(f"{KEYS}?caller=b")).json()["data"]] == ["b"]
    assert len((await admin.get(KEYS)).json()["data"]) == 3
    assert (await admin.delete(f"{CALLERS}/a")).status_code == 409
    (key,) = (await admin.get(f"{KEYS}?caller=a")).json()["data"]
    await admin.delete(f"{KEYS}/{key['id']}")
    assert (await admin.delete(f"{CALLERS}/a")).json() == {"id": "a", "object": "caller", "deleted": True}


async def test_a_key_of_elsewhere_is_taken_over_by_its_hash_once(service: Service, admin: httpx2.AsyncClient) -> None:
    await made(admin, CALLERS, {"name": "a"})
    digest = digest_of("sk-elsewhere")
    key = await made(admin, KEYS, {"caller": "a", "hash": f"sha256:{digest.hex()}"})
    assert "key" not in key
    again = await admin.post(KEYS, json={"caller": "a", "hash": f"SHA256:{digest.hex().upper()}"})
    assert (again.status_code, again.json()["error"]["code"]) == (409, "exists_already")
    other = KeyRecord(caller="a", digest=digest)
    row = await ControlLedger(service.database).get(Section.KEYS, key["id"])
    assert row is not None
    assert b'"digest"' in bytes(row.data or b"")
    assert other.digest == digest


async def test_limits_and_prices(admin: httpx2.AsyncClient) -> None:
    made_limit = await made(admin, LIMITS, {"caller": "a", "model": "org/m", "limits": {"requests_per_minute": 60}})
    assert (made_limit["id"], made_limit["object"]) == ("caller=a,model=org/m", "limit")
    again = await made(admin, LIMITS, {"caller": "a", "model": "org/m", "limits": {"requests_per_minute": 30}})
    assert again["limits"] == {"requests_per_minute": 30}
    assert (await admin.get(f"{LIMITS}/caller=a,model=org/m")).json() == again
    only_new = await admin.post(
        LIMITS,
        json={"caller": "a", "model": "org/m", "limits": {"requests_per_day": 1}},
        headers={"if-none-match": "*"},
    )
    assert (only_new.status_code, only_new.json()["error"]["code"]) == (409, "exists_already")
    assert (await admin.get(f"{LIMITS}/caller=a,model=org/m")).json() == again
    await made(admin, LIMITS, {"kind": "price", "model": "org/*", "prices": {"input_tokens": 1.5}})
    assert [one["object"] for one in (await admin.get(LIMITS)).json()["data"]] == ["limit", "price"]
    assert (await admin.delete(f"{LIMITS}/caller=a,model=org/m")).json()["deleted"]
    assert (await admin.get(f"{LIMITS}/caller=a,model=org/m")).status_code == 404
    unknown = await admin.post(LIMITS, json={"limits": {"request_per_minute": 60}})
    assert unknown.json()["error"]["message"].endswith("did you mean requests_per_minute?")


CASES: list[tuple[str, dict[str, Any]]] = [
    (CALLERS, {}),
    (CALLERS, {"name": "not a name"}),
    (CALLERS, {"name": "anyone"}),
    (CALLERS, {"name": "b", "role": "boss"}),
    (CALLERS, {"name": "b", "role": "operator"}),
    (CALLERS, {"name": "b", "operations": ["nothing"]}),
    (CALLERS, {"name": "b", "models": []}),
    (CALLERS, {"name": "b", "models": "all"}),
    (CALLERS, {"name": "b", "labels": {str(number): "" for number in range(33)}}),
    (CALLERS, {"name": "b", "owner": "x"}),
    (CALLERS, {"name": "b", "note": "a\nb"}),
    (KEYS, {}),
    (KEYS, {"caller": "a", "hash": "sk-plain"}),
    (KEYS, {"caller": "a", "hash": "0" * 64}),
    (KEYS, {"caller": "a", "expires_in": 0}),
    (KEYS, {"caller": "a", "expires_in": -1}),
    (KEYS, {"caller": "a", "expires_in": float("nan")}),
    (KEYS, {"caller": "a", "expires_in": 1e300}),
    (KEYS, {"caller": "a", "expires_in": 5, "expires_at": 5}),
    (KEYS, {"caller": "a", "key": "sk-mine"}),
    (f"{KEYS}/KEY", {"expires_in": 0}),
    (f"{KEYS}/KEY", {"caller": "b"}),
    (f"{KEYS}/KEY/rotate", {"overlap_seconds": -1}),
    (f"{KEYS}/KEY/rotate", {"overlap_seconds": "1h"}),
    (f"{CALLERS}/a", {"name": "b"}),
    (LIMITS, {"caller": "a"}),
    (LIMITS, {"key": "k_1", "limits": {"batch_enqueued_tokens": 5}}),
    (LIMITS, {"soft_limits": {"batch_enqueued_tokens": 5}}),
    (LIMITS, {"limits": {"requests_per_minute": 0}}),
    (LIMITS, {"limits": {"requests_per_minute": float("inf")}}),
    (CORDONS, {"selector": "  "}),
    (CORDONS, {"endpoint": "a", "expires_in": float("nan")}),
    (CORDONS, {"endpoint": "a", "expires_in": 1e9}),
    (CORDONS, {"endpoint": "x" * 300}),
]


async def test_what_cannot_be_is_a_400_that_names_the_field(admin: httpx2.AsyncClient) -> None:
    await made(admin, CALLERS, {"name": "a"})
    key = await made(admin, KEYS, {"caller": "a"})
    before = [(await admin.get(one)).json() for one in (CALLERS, KEYS, LIMITS, CORDONS)]
    for path, body in CASES:
        answer = await admin.post(path.replace("KEY", key["id"]), content=as_json(body))
        assert answer.status_code == 400, (path, body, answer.text)
        error = answer.json()["error"]
        assert error["param"], (path, body)
        assert re.search(r"\de[+-]\d", error["message"]) is None, error["message"]  # numbers as people write them
    assert [(await admin.get(one)).json() for one in (CALLERS, KEYS, LIMITS, CORDONS)] == before


def as_json(body: object) -> bytes:
    return json.dumps(body).encode()  # with NaN, as careless clients write it


async def test_what_is_not_there_is_a_404(admin: httpx2.AsyncClient) -> None:
    for path in (
        f"{CALLERS}/x",
        f"{KEYS}/x",
        f"{LIMITS}/x",
        f"{CORDONS}/x",
        f"{CORDONS}/cordon_x",
        f"{KEYS}/{'x' * 99}",
    ):
        assert (await admin.get(path)).status_code == 404
        assert (await admin.delete(path)).status_code == 404
    assert (await admin.post(KEYS, json={"caller": "nobody"})).status_code == 404
    assert (await admin.post(f"{KEYS}/x/rotate", json={})).status_code == 404


async def test_an_operator_of_some_models_may_not_cordon(service: Service) -> None:
    names = ("create_cordon", "list_cordons", "delete_cordon")
    async with service.http("op", Grants(Role.OPERATOR, "k", names, ("chat-*",))) as client:
        refused = await client.post(CORDONS, json={"endpoint": "a"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "permission_denied")
        assert (await client.get(CALLERS)).status_code == 404
    async with service.http("op", Grants(Role.OPERATOR, "k", names)) as client:
        cordon = await made(client, CORDONS, {"endpoint": "a"})
        assert (await client.delete(f"{CORDONS}/{cordon['id']}")).status_code == 200
        assert (await client.get(f"{CORDONS}/{cordon['id']}")).status_code == 404
