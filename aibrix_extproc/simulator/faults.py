"""Faults that can be asked for, and which request gets which: parsing and choosing, no I/O.

A fault is written `name;key=value;key=value` in the header `x-sim-fault`, or as the JSON object
`{"fault": name, key: value, ..., "count": N, "path": "/prefix"}` for the admin route.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final


class FaultName(StrEnum):
    """What can go wrong."""

    REFUSE_CONNECTIONS = "refuse-connections"
    RESET_BEFORE_HEADERS = "reset-before-headers"
    RESET_MID_STREAM = "reset-mid-stream"
    CLOSE_MID_STREAM = "close-mid-stream"
    STALL = "stall"
    STALL_MID_STREAM = "stall-mid-stream"
    STATUS = "status"
    HTML_502 = "html-502"
    MALFORMED_JSON = "malformed-json"
    SSE_PIECES = "sse-pieces"
    SLOW_HEADERS = "slow-headers"
    ERROR_EVENT = "error-event"
    FIRST_EVENT_ERROR = "first-event-error"
    CRASH = "crash"
    CRASH_MID_STREAM = "crash-mid-stream"


@dataclass(frozen=True, slots=True)
class Parameter:
    """One key of a fault: its type's default (the type is taken from it) and what it means."""

    default: int | float | str
    text: str


_AFTER: Final = Parameter(1, "events (or half bodies) sent before it happens")
_FOREVER: Final = Parameter(3600.0, "seconds until it goes on")

PARAMETERS: Final[Mapping[FaultName, Mapping[str, Parameter]]] = {
    FaultName.REFUSE_CONNECTIONS: {"seconds": Parameter(1.0, "seconds without a listener")},
    FaultName.RESET_BEFORE_HEADERS: {},
    FaultName.RESET_MID_STREAM: {"after": _AFTER},
    FaultName.CLOSE_MID_STREAM: {
        "after": _AFTER,
        "framing": Parameter("complete", "`complete` ends the chunked body properly, `broken` leaves it open"),
    },
    FaultName.STALL: {"seconds": _FOREVER},
    FaultName.STALL_MID_STREAM: {"after": _AFTER, "seconds": _FOREVER},
    FaultName.STATUS: {
        "code": Parameter(500, "status"),
        "shape": Parameter("A", "letter of the error body's shape"),
        "message": Parameter("simulated failure", "text of the error"),
        "retry_after": Parameter("", "value of a Retry-After header"),
    },
    FaultName.HTML_502: {},
    FaultName.MALFORMED_JSON: {},
    FaultName.SSE_PIECES: {"bytes": Parameter(7, "bytes in one socket write")},
    FaultName.SLOW_HEADERS: {"seconds": Parameter(0.2, "delay before the status line")},
    FaultName.ERROR_EVENT: {
        "after": _AFTER,
        "code": Parameter(500, "code in the event"),
        "message": Parameter("EngineCore encountered an issue.", "text of the error"),
    },
    FaultName.FIRST_EVENT_ERROR: {
        "code": Parameter(500, "code in the event"),
        "message": Parameter("EngineCore encountered an issue.", "text of the error"),
    },
    FaultName.CRASH: {},
    FaultName.CRASH_MID_STREAM: {"after": _AFTER},
}
"""Every fault with its keys."""


class FaultSyntaxError(ValueError):
    """A fault that cannot be understood; the text says why."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault with all of its keys."""

    name: FaultName
    values: Mapping[str, int | float | str] = field(default_factory=dict)

    def number(self, key: str) -> float:
        """A numeric key."""
        return float(self.values[key])

    def integer(self, key: str) -> int:
        """A whole-number key."""
        return int(self.values[key])

    def text(self, key: str) -> str:
        """A text key."""
        return str(self.values[key])


def parse_header(value: str) -> Fault:
    """Read `name;key=value;...`."""
    name, *parts = (part.strip() for part in value.split(";"))
    given: dict[str, object] = {}
    for part in filter(None, parts):
        key, equals, text = part.partition("=")
        if not equals:
            raise FaultSyntaxError(f"expected key=value, not {part!r}")
        given[key.strip()] = text.strip()
    return build_fault(name, given)


def build_fault(name: str, given: Mapping[str, object]) -> Fault:
    """Check the keys of a fault and fill in the rest."""
    try:
        known = FaultName(name)
    except ValueError:
        raise FaultSyntaxError(f"unknown fault {name!r}; known: {', '.join(FaultName)}") from None
    parameters = PARAMETERS[known]
    unknown = set(given) - set(parameters)
    if unknown:
        raise FaultSyntaxError(f"{known} has no {', '.join(sorted(unknown))}; it has {', '.join(parameters) or 'none'}")
    values: dict[str, int | float | str] = {key: parameter.default for key, parameter in parameters.items()}
    for key, value in given.items():
        values[key] = _convert(key, value, parameters[key].default)
    return Fault(known, values)


def _convert(key: str, value: object, default: int | float | str) -> int | float | str:
    try:
        converted = type(default)(str(value))
    except ValueError:
        raise FaultSyntaxError(f"{key} must be {type(default).__name__}, not {value!r}") from None
    if not isinstance(converted, str) and not 0 <= converted < 1e9:
        raise FaultSyntaxError(f"{key} must not be negative or huge, not {value!r}")
    return converted


@dataclass(slots=True)
class PlannedFault:
    """A fault that waits for requests."""

    fault: Fault
    path: str = ""
    left: int | None = None
    """Requests it is still good for; None means all."""


class FaultPlan:
    """The faults set by the admin route, oldest first; the first that fits a path is taken."""

    def __init__(self) -> None:
        self._planned: list[PlannedFault] = []

    def add(self, fault: Fault, path: str = "", count: int | None = None) -> None:
        """Plan a fault for the next `count` requests below `path`."""
        self._planned.append(PlannedFault(fault, path, count))

    def replace(self, planned: list[PlannedFault]) -> None:
        """Forget all faults and plan these."""
        self._planned = planned

    def clear(self) -> None:
        """Forget all faults."""
        self._planned = []

    def take(self, method: str, path: str) -> Fault | None:
        """The fault of a request, which uses it up by one.

        A fault without a path hits POST requests only: scrapes and health checks must not use it up.
        """
        for planned in self._planned:
            if path.startswith(planned.path) if planned.path else method == "POST":
                if planned.left is not None:
                    planned.left -= 1
                    if planned.left <= 0:
                        self._planned.remove(planned)
                return planned.fault
        return None

    def describe(self) -> list[dict[str, object]]:
        """The plan as the admin route shows it."""
        return [
            {"fault": planned.fault.name, **planned.fault.values, "path": planned.path, "count": planned.left}
            for planned in self._planned
        ]


def parse_plan(document: object) -> list[PlannedFault]:
    """Read the admin route's body: one fault, or a list of them."""
    entries = document if isinstance(document, list) else [document]
    planned = []
    for entry in entries:
        if not isinstance(entry, dict) or not isinstance(entry.get("fault"), str):
            raise FaultSyntaxError("expected an object with the key 'fault'")
        rest = {key: value for key, value in entry.items() if key not in ("fault", "count", "path")}
        count, path = entry.get("count"), entry.get("path") or ""
        if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 1):
            raise FaultSyntaxError(f"count must be a positive whole number, not {count!r}")
        if not isinstance(path, str):
            raise FaultSyntaxError(f"path must be text, not {path!r}")
        planned.append(PlannedFault(build_fault(entry["fault"], rest), path, count))
    return planned
