"""Checks a client's request to engines against the table, and makes the request that each engine gets."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import urlencode

from aibrix_extproc.core.openai.contract.errors import Problem
from aibrix_extproc.core.operations.parameters import Kind, Parameter, checked, invalid, read_query
from aibrix_extproc.core.operations.table import Adapters, EngineOperation

MODEL: Final = "model"  # ours, in the query string: which engines
# By AIBrix 0.7's runtime: its routes, and the parameters that it takes; it refuses all others.
_RUNTIME_PATHS: Final = MappingProxyType(
    {Adapters.LOAD: "/v1/lora_adapter/load", Adapters.UNLOAD: "/v1/lora_adapter/unload"}
)
_RUNTIME_TAKES: Final = frozenset({"lora_name", "lora_path", "lora_int_id"})


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """One request as it is sent to an engine."""

    method: str
    target: str  # path and query string
    body: bytes | None = None  # JSON
    of_runtime: "EngineRequest | None" = None  # the same for AIBrix's runtime sidecar, if it can do it


def read_parameters(
    operation: EngineOperation, query: Mapping[str, Sequence[str]], body: Mapping[str, Any]
) -> Mapping[str, Any] | Problem:
    """The parameters of an operation, or why they are refused. vLLM ignores what it does not know; a slip is a 400."""
    found: dict[str, Any] = {}
    known = {parameter.name: parameter for parameter in operation.parameters}
    for name in query:
        if name != MODEL and not (name in known and known[name].in_query):
            return _unknown(operation, name)
    for name in body:
        if name not in known or known[name].in_query:
            return _unknown(operation, name)
    for parameter in operation.parameters:
        value = _value(parameter, query, body)
        if isinstance(value, Problem):
            return value
        if value is not None:
            found[parameter.name] = value
        elif parameter.required:
            return Problem("missing_required_parameter", {"param": parameter.name}, param=parameter.name)
    return found


def _value(parameter: Parameter, query: Mapping[str, Sequence[str]], body: Mapping[str, Any]) -> Any | Problem:
    if parameter.in_query:
        given = query.get(parameter.name)
        return read_query(parameter, given) if given else None
    value = body.get(parameter.name)
    return None if value is None else checked(parameter, value)


def _unknown(operation: EngineOperation, name: str) -> Problem:
    given = name if len(name) <= 64 and name.isprintable() else "?"
    names = ", ".join(f"'{one.name}'" for one in operation.parameters) or "none"
    return invalid(given, f"Unknown parameter: '{given}'. {operation.path} takes: {names}.")


def request_of(operation: EngineOperation, parameters: Mapping[str, Any]) -> EngineRequest:
    """The request for an engine. `parameters` are those of `read_parameters`."""
    pairs: list[tuple[str, str]] = []
    body: dict[str, Any] = {}
    for parameter in operation.parameters:
        value = parameters.get(parameter.name)
        if value is None:
            continue
        if not parameter.in_query:
            body[parameter.name] = value
        elif parameter.kind is Kind.TEXTS:
            pairs += [(parameter.name, one) for one in value]
        else:
            pairs.append((parameter.name, json.dumps(value) if isinstance(value, bool) else str(value)))
    target = f"{operation.path}?{urlencode(pairs)}" if pairs else operation.path
    has_body = any(not parameter.in_query for parameter in operation.parameters)
    sent = json.dumps(body).encode() if has_body else None
    return EngineRequest(operation.method, target, sent, _of_runtime(operation, body))


def _of_runtime(operation: EngineOperation, body: Mapping[str, Any]) -> EngineRequest | None:
    needed = {name: value for name, value in body.items() if value is not False}  # what the engine assumes anyway
    path = _RUNTIME_PATHS.get(operation.adapters)
    if path is None or not needed.keys() <= _RUNTIME_TAKES:
        return None
    return EngineRequest(operation.method, path, json.dumps(needed).encode())
