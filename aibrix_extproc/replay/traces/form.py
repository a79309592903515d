"""Finds out of its first line in which form a trace is, and reads it."""

from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from types import MappingProxyType
from typing import Final

from aibrix_extproc.replay.trace import Trace, TraceError
from aibrix_extproc.replay.traces.azure import read_azure
from aibrix_extproc.replay.traces.exchange_log import read_exchange_log
from aibrix_extproc.replay.traces.mooncake import read_mooncake

FORMS: Final[Mapping[str, Callable[[str, Iterable[bytes]], Trace]]] = MappingProxyType(
    {"mooncake": read_mooncake, "azure": read_azure, "log": read_exchange_log}
)


def read_trace(name: str, lines: Iterable[bytes], form: str | None = None) -> Trace:
    """The trace in one of FORMS, or in the one that its first line has. Raises TraceError."""
    rest = iter(lines)
    first = next((line for line in rest if line.strip()), b"")
    if not first:
        raise TraceError("it is empty")
    return FORMS[form or _form_of(first)](name, chain([first], rest))


def _form_of(line: bytes) -> str:
    if b"TIMESTAMP" in line:
        return "azure"
    return "mooncake" if b'"input_length"' in line else "log"
