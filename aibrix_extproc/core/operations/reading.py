"""Reads what a client asks for: a run's operations, target, order and bounds. All is checked before it begins."""

from collections.abc import Mapping
from typing import Any, Final

from aibrix_extproc.core.openai.contract.errors import Problem
from aibrix_extproc.core.openai.contract.refusals import json_type, out_of_range, unsupported
from aibrix_extproc.core.operations.parameters import MAX_TEXT, checked, invalid, wrong_type
from aibrix_extproc.core.operations.recipes import NAMES, ROWS
from aibrix_extproc.core.operations.records import Ask, Order, RunSpec, Target
from aibrix_extproc.core.operations.table import ENGINE_OPERATIONS

MAX_ASKS: Final = 8
MAX_TARGETS: Final = 4096
MAX_LABELS: Final = 32
MAX_UPDATES: Final = 64
MAX_DRAIN_SECONDS: Final = 24 * 3600
MAX_SECONDS: Final = 7 * 24 * 3600
_FIELDS: Final = frozenset({
    "operation", "params", "then", "target", "drain", "order", "max_unavailable", "keep_available", "timeout",
    "call_timeout", "force",
})  # fmt: skip


class _Refused(Exception):
    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.key)
        self.problem = problem


def read_spec(fields: Mapping[str, Any]) -> RunSpec | Problem:
    """The run that a body asks for, or the refusal of its first mistake."""
    try:
        return _spec(fields)
    except _Refused as refused:
        return refused.problem


def _spec(fields: Mapping[str, Any]) -> RunSpec:
    _known(fields, _FIELDS, "")
    asks = [_ask(fields, "")]
    then = _of_type(fields, "then", list, "an array", [])
    if len(then) >= MAX_ASKS:
        raise _Refused(invalid("then", f"Invalid 'then': expected at most {MAX_ASKS - 1} operations."))
    for number, one in enumerate(then):
        place = f"then[{number}]."
        if not isinstance(one, Mapping):
            raise _Refused(wrong_type(f"then[{number}]", "an object", json_type(one)))
        _known(one, frozenset({"operation", "params"}), place)
        asks.append(_ask(one, place))
    if len(asks) > 1 and any(ROWS[ask.operation].alone for ask in asks):
        raise _Refused(invalid("then", "Invalid 'then': rolling_weight_update is a sequence already and stands alone."))
    order = _of_type(fields, "order", str, "a string", Order.ROLLING.value)
    if order not in tuple(Order):
        raise _Refused(unsupported("order", order, tuple(Order)))
    drain = _of_type(fields, "drain", Mapping, "an object", {})
    _known(drain, frozenset({"seconds"}), "drain.")
    return RunSpec(
        tuple(asks), _target(fields), Order(order),
        max_unavailable=_integer(fields, "max_unavailable", 1, 1, MAX_TARGETS),
        keep_available=_integer(fields, "keep_available", 1, 0, MAX_TARGETS),
        drain_seconds=_seconds(drain, "seconds", "drain.", 30.0, 0, MAX_DRAIN_SECONDS),
        call_seconds=_seconds(fields, "call_timeout", "", 300.0, 1, MAX_DRAIN_SECONDS),
        timeout_seconds=_seconds(fields, "timeout", "", 3600.0, 1, MAX_SECONDS),
        force=_of_type(fields, "force", bool, "a boolean", False),
    )  # fmt: skip


def _ask(fields: Mapping[str, Any], place: str) -> Ask:
    operation = fields.get("operation")
    name = f"{place}operation"
    if operation is None:
        raise _Refused(Problem("missing_required_parameter", {"param": name}, param=name))
    if not isinstance(operation, str):
        raise _Refused(wrong_type(name, "a string", json_type(operation)))
    if operation not in NAMES:
        raise _Refused(unsupported(name, operation, NAMES))
    params = _of_type(fields, "params", Mapping, "an object", {}, place)
    where = f"{place}params."
    if ROWS[operation].alone:
        return Ask(operation, _weight_update(params, where))
    return Ask(operation, _parameters(operation, params, where))


def _parameters(operation: str, given: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    """Parameters of one engine operation, as its row says. A null counts as absent."""
    rows = {one.name: one for one in ENGINE_OPERATIONS[operation].parameters}
    found = {}
    for name, value in given.items():
        if name not in rows:
            _known(given, frozenset(rows), where)
        if value is not None:
            good = checked(rows[name], value)
            if isinstance(good, Problem):
                raise _Refused(_placed(good, where))
            found[name] = good
    for name, row in rows.items():
        if row.required and name not in found:
            raise _Refused(Problem("missing_required_parameter", {"param": where + name}, param=where + name))
    return found


def _weight_update(given: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    _known(given, frozenset({"weight_version", "updates", "start"}), where)
    version = _parameters("update_weight_version", {"new_version": given.get("weight_version")}, where)
    updates = _of_type(given, "updates", list, "an array", [], where)
    if len(updates) > MAX_UPDATES:
        raise _Refused(invalid(f"{where}updates", f"Invalid '{where}updates': expected at most {MAX_UPDATES} values."))
    infos = [_parameters("update_weights", {"update_info": one}, where)["update_info"] for one in updates]
    start = _parameters("start_weight_update", _of_type(given, "start", Mapping, "an object", {}, where), where)
    return {"weight_version": version["new_version"], "updates": infos, "start": start}


def _target(fields: Mapping[str, Any]) -> Target:
    given = _of_type(fields, "target", Mapping, "an object", {})
    _known(given, frozenset({"model", "endpoints", "labels"}), "target.")
    if not any(given.values()):
        raise _Refused(Problem("missing_required_parameter", {"param": "target"}, param="target"))
    model = _of_type(given, "model", str, "a string", "", "target.")
    endpoints = _of_type(given, "endpoints", list, "an array", [], "target.")
    if len(endpoints) > MAX_TARGETS:
        raise _Refused(invalid("target.endpoints", f"Invalid 'target.endpoints': expected at most {MAX_TARGETS}."))
    labels = _of_type(given, "labels", Mapping, "an object", {}, "target.")
    if len(labels) > MAX_LABELS:
        raise _Refused(invalid("target.labels", f"Invalid 'target.labels': expected at most {MAX_LABELS}."))
    texts = [("target.endpoints", one) for one in endpoints]
    texts += [("target.labels", one) for pair in labels.items() for one in pair]
    for name, text in texts:
        _text(name, text)
    return Target(_text("target.model", model) if model else "", tuple(endpoints), dict(labels))


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise _Refused(wrong_type(name, "a string", json_type(value)))
    if not 0 < len(value) <= MAX_TEXT or not value.isprintable():
        raise _Refused(invalid(name, f"Invalid '{name}': expected 1 to {MAX_TEXT} printable characters."))
    return value


def _known(given: Mapping[str, Any], known: frozenset[str], where: str) -> None:
    for name in given:
        if name not in known:
            shown = where + (name if len(name) <= 64 and name.isprintable() else "?")
            raise _Refused(invalid(shown, f"Unknown parameter: '{shown}'."))


def _of_type(fields: Mapping[str, Any], name: str, kind: type, expected: str, default: Any, where: str = "") -> Any:
    value = fields.get(name)
    if value is None:
        return default
    if not isinstance(value, kind):
        raise _Refused(wrong_type(where + name, expected, json_type(value)))
    return value


def _integer(fields: Mapping[str, Any], name: str, default: int, low: int, high: int) -> int:
    value = fields.get(name)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool):
        raise _Refused(wrong_type(name, "an integer", json_type(value)))
    if not low <= value <= high:
        raise _Refused(out_of_range(name, value, low, high))
    return value


def _seconds(fields: Mapping[str, Any], name: str, where: str, default: float, low: int, high: int) -> float:
    value = fields.get(name)
    if value is None:
        return default
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise _Refused(wrong_type(where + name, "a number", json_type(value)))
    if not low <= value <= high:
        message = f"Invalid '{where + name}': expected {low} to {high} seconds."
        raise _Refused(invalid(where + name, message))
    return float(value)


def _placed(problem: Problem, where: str) -> Problem:
    """The same refusal, of a parameter inside of another one."""
    return Problem(problem.key, problem.values, param=f"{where}{problem.param}", code=problem.code)
