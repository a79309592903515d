"""Acceptance 7.8: the models that a client can list, retrieve and use are the same."""

from typing import Any, Final
from urllib.parse import quote

from aibrix_extproc.conformance import samples, sdk
from aibrix_extproc.conformance.bench import Bench
from aibrix_extproc.conformance.case import Case, Inapplicable, Limited, Need
from aibrix_extproc.conformance.expect import NO_404, TOO_MANY, check, expect_error, expect_json
from aibrix_extproc.conformance.probe import served

ODD: Final = ("a:b@c d", "a?b", "%")
PRIVATE: Final = frozenset({"root", "permission"})


def _list(bench: Bench) -> None:
    client = bench.client(_strict_response_validation=True)
    first, second = client.models.list(), client.models.list()
    check(type(first).__name__.startswith("SyncPage") and first.data, "a SyncPage with models", first)
    for card in first.data:
        fields = card.to_dict()
        check(fields["object"] == "model" and fields.get("owned_by"), "object model, owned_by", fields)
        check(not PRIVATE & set(fields), "no root and no permission", fields)
    times = [[(card.id, card.created) for card in page.data] for page in (first, second)]
    check(times[0] == times[1], f"the same models and times as before, {times[0]}", times[1])


def _slashes(bench: Bench) -> None:
    name = next((card.id for card in bench.deployment.cards if "/" in card.id), None)
    if name is None:
        raise Inapplicable("no listed model has a slash in its id")
    for path in (name, quote(name, safe="")):
        found = expect_json(bench.send("GET", f"/v1/models/{path}"))
        check(found.get("id") == name, f"id {name}", found)
    found = bench.client().models.retrieve(name)
    check(found.id == name, f"id {name} through the SDK", found)


def _odd(bench: Bench) -> None:
    listed = {card.id for card in bench.deployment.cards}
    for name in ODD:
        if name not in listed:
            answer = sdk.status_error(lambda name=name: bench.client().models.retrieve(name))  # type: ignore[misc]
            check(answer, f"a refusal of {name!r}", "a model")
            assert answer is not None
            expect_error(answer, 404, code="model_not_found")


def _unknown(bench: Bench) -> None:
    _, answer = sdk.refused(lambda: bench.client().models.retrieve(samples.UNKNOWN_MODEL), "NotFoundError", NO_404)
    expect_error(answer, 404, code="model_not_found", param="model")


def _retrieve_known(bench: Bench) -> None:
    found: Any = bench.client().models.retrieve(bench.model())
    check(found.id == bench.model(), f"id {bench.model()}", found)


def _delete(bench: Bench) -> None:
    answer = sdk.status_error(lambda: bench.client().models.delete(bench.model()))
    check(answer, "a refusal", "deleted")
    assert answer is not None
    expect_error(answer, 403, 404, 405)


def _usable(bench: Bench) -> None:
    listed = [card.id for card in bench.deployment.cards]
    idle = [name for name in listed if not served(bench.target, name)]
    for name in idle:
        answer = bench.chat({"model": name})
        if answer.status == TOO_MANY:
            raise Limited(str(answer))
    check(not idle, "an answer from each listed model", f"none from {idle}")
    unlisted = [name for name in bench.deployment.serves if name not in listed]
    check(not unlisted, "each model that serves in the list", f"{unlisted} are not")
    _retrieve_known(bench)


def _twice(bench: Bench) -> None:
    ids = [card.id for card in bench.deployment.cards]
    twice = sorted({name for name in ids if ids.count(name) > 1})
    check(not twice, "each model once", f"{twice} more than once")


CASES: Final = (
    # id, title, expected, check, needs
    Case("MOD-01", "list", "required fields, no root or permission, stable times", _list),
    Case("MOD-02", "retrieve an id with a slash", "found raw and as %2F", _slashes),
    Case("MOD-03", "retrieve odd ids", "404 model_not_found", _odd),
    Case("MOD-04", "retrieve an unknown id", "404 model_not_found, param model", _unknown),
    Case("MOD-05", "delete a base model", "403, 404 or 405 in shape", _delete, (Need.CHAT,)),
    Case("MOD-07", "listed, retrieved and used models", "the same", _usable, (Need.CHAT,), time_factor=2),
    Case("MOD-08", "models of several engines", "listed once", _twice),
)
