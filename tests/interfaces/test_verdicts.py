"""What was measured: every field of every operation, with a reason where no effect is seen."""

import pytest

from aibrix_extproc.core.fleet.model import RUST_FRONTEND
from aibrix_extproc.core.openai.contract.controls import BODY_CONTROLS
from aibrix_extproc.core.openai.contract.operation_rows import OPERATIONS
from aibrix_extproc.core.openai.contract.operations import Action, ModelIn
from aibrix_extproc.interfaces.catalogue import catalogue
from aibrix_extproc.interfaces.fields import fields_of
from aibrix_extproc.interfaces.verdicts import MEASURED, NEWEST, RUST, STORED, verdicts

OPERATION_IDS = tuple(verdicts())
VERDICTS = {"honoured", "checked", "ignored", "refused"}
# In every request that has it; and an object whose members are measured.
UNMEASURED = {"file", "messages[user].content[file].file"}

UNSERVED = {"list_input_items"}  # no engine has it


def test_every_operation_of_an_engine_that_takes_a_request_is_measured() -> None:
    routed = {row.id for row in OPERATIONS if row.action is Action.ROUTE and row.model_in is not ModelIn.NONE}
    assert routed & set(catalogue().interfaces) - set(OPERATION_IDS) == set()


@pytest.mark.parametrize("name", MEASURED)
def test_every_field_is_measured_and_no_other(name: str) -> None:
    """`make measure` brings them up to date. Of an older engine some may be missing."""
    known = catalogue()
    for operation, places in verdicts(name).items():
        interface = known.interfaces[operation]
        for place in ("request", "answer", "events"):
            schema = getattr(interface, place)
            paths = {one.path for one in fields_of(schema, known.definitions)} if schema else set()
            missing = paths - set(places.get(place, {})) - UNMEASURED
            assert name != NEWEST or missing == set(), (operation, place)
            assert set(places.get(place, {})) - paths == set(), (operation, place)


def test_operations_that_the_rust_frontend_does_not_have_were_refused() -> None:
    lacking = {row.id for row in OPERATIONS if RUST_FRONTEND in row.lacking_frontends}
    refused = {
        operation: places["refused"]["error"] for operation, places in verdicts(RUST).items() if "refused" in places
    }
    assert refused.keys() == lacking & verdicts(RUST).keys()
    assert {error.partition(" ")[0] for error in refused.values()} == {"400"}, "none is the engine's 404 or 501"


def test_a_verdict_says_what_was_seen_or_why_nothing_was() -> None:
    for operation, places in verdicts(NEWEST).items():
        for path, verdict in places["request"].items():
            where = (operation, path)
            assert verdict["verdict"] in VERDICTS, where
            assert bool(verdict.get("seen")) == (verdict["verdict"] == "honoured"), where
            assert bool(verdict.get("error")) == (verdict["verdict"] == "refused"), where
            if "." not in path and verdict["verdict"] == "checked":
                assert verdict.get("why"), f"{where}: say in tools/measure/probes.toml why no effect can be seen"


@pytest.mark.parametrize("operation", OPERATION_IDS)
def test_controls_of_engines_are_for_those_who_may(operation: str) -> None:
    measured = verdicts(NEWEST)[operation]["request"]
    steering = {path for path, verdict in measured.items() if "otherwise" in verdict}
    assert steering == set(BODY_CONTROLS) & set(measured)


def test_the_document_says_of_each_measured_field_what_came_of_it() -> None:
    known = catalogue()
    for operation, places in verdicts(NEWEST).items():
        request = known.interfaces[operation].request
        assert request is not None
        told = {
            one.path: one.schema.get("x-measured", {}).get(operation) for one in fields_of(request, known.definitions)
        }
        measured = {path: verdict["verdict"] for path, verdict in places["request"].items()}
        assert {path: verdict for path, verdict in told.items() if verdict} == measured, operation


def test_every_field_of_a_stored_object_has_a_verdict_that_says_what_was_seen() -> None:
    """`python -m tools.measure --stored` writes them. What is in every request, and objects of fields, have none."""
    known = catalogue()
    for row in OPERATIONS:
        interface = known.interfaces.get(row.id)
        if row.action not in (Action.METADATA, Action.STICKY) or interface is None or row.id in UNSERVED:
            continue
        for place in ("request", "query"):
            schema = getattr(interface, place)
            paths = {one.path for one in fields_of(schema, known.definitions)} if schema else set()
            found = verdicts(STORED).get(row.id, {}).get(place, {})
            objects = {path.partition(".")[0] for path in paths if "." in path}
            assert paths - objects - {"file", "data"} == set(found), (row.id, place)
            for path, verdict in found.items():
                assert verdict["verdict"] != "checked" or verdict.get("why"), (row.id, path)
