"""docs/exchange.md: the two phase tables of the exchange machine, drawn."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, TypeVar

from aibrix_extproc.cli.reference_markdown import page, table
from aibrix_extproc.core.exchange.states import REQUEST_TABLE, RESPONSE_TABLE, Mode

P = TypeVar("P", bound=StrEnum)

_HEAD: Final = """
An exchange is one HTTP request and its response, seen by us as one ext_proc stream. `core/exchange` holds it as a
machine without I/O: events go in, replies to Envoy, questions to the gateway and facts come out. Each direction has a
table of its own, as in Envoy's filter; an event that the table does not list for the phase is a protocol violation
and changes nothing. An arrow is labelled with the events that may lead along it.
"""

_MODES: Final[Mapping[Mode, str]] = {
    Mode.SERVING: "the tables below hold",
    Mode.ABSORBING: "we have given the final answer; what was still on its way is swallowed",
    Mode.CLOSED: "the stream is over and the one `Finished` fact is out; late answers are dropped",
}


def exchange_page() -> str:
    """The page."""
    return page(
        "The life of an exchange",
        _HEAD,
        "## Mode\n\n" + table(("mode", "meaning"), ((mode.value, _MODES[mode]) for mode in Mode)),
        "## Request\n\n" + _diagram(REQUEST_TABLE),
        "## Response\n\n" + _diagram(RESPONSE_TABLE),
    )


def _diagram(phases: Mapping[tuple[P, type], frozenset[P]]) -> str:
    """A state diagram in the order of the table; several events between two phases share an arrow."""
    names: dict[str, None] = {}
    arrows: dict[tuple[str, str], list[str]] = {}
    for (phase, event), successors in phases.items():
        for successor in sorted(successors):
            names.setdefault(phase.value)
            names.setdefault(successor.value)
            arrows.setdefault((phase.value, successor.value), []).append(event.__name__)
    lines = ["stateDiagram-v2"]
    lines += [f'    state "{name}" as {_alias(name)}' for name in names if _alias(name) != name]
    lines += [f"    [*] --> {_alias(next(iter(names)))}"]
    lines += [f"    {_alias(a)} --> {_alias(b)}: {', '.join(events)}" for (a, b), events in arrows.items()]
    return "```mermaid\n" + "\n".join(lines) + "\n```"


def _alias(name: str) -> str:
    return name.replace(" ", "_")
