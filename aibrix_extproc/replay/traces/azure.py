"""Azure's form: CSV with TIMESTAMP, ContextTokens and GeneratedTokens. It tells lengths and nothing of prefixes."""

import csv
import datetime
from collections.abc import Iterable, Iterator

from aibrix_extproc.replay.trace import Request, Trace, TraceError, trace_of

_COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")


def read_azure(name: str, lines: Iterable[bytes]) -> Trace:
    """The trace. Raises TraceError with the number of a line that cannot be read."""
    return trace_of(name, _requests(lines))


def _requests(lines: Iterable[bytes]) -> Iterator[Request]:
    rows = csv.DictReader(line.decode("utf-8-sig", "replace") for line in lines)
    missing = [name for name in _COLUMNS if name not in (rows.fieldnames or ())]
    if missing:
        raise TraceError(f"line 1: the column {missing[0]} is missing")
    for row in rows:
        try:
            prompt, output = int(row["ContextTokens"]), int(row["GeneratedTokens"])
            yield Request(_seconds(row["TIMESTAMP"]), max(prompt, 1), max(output, 0))
        except (TypeError, ValueError) as error:
            raise TraceError(f"line {rows.line_num}: {error}") from error


def _seconds(text: str) -> float:
    """Since the epoch. Azure writes seven digits of a second; Python reads six."""
    whole, _, fraction = text.partition(".")
    at = datetime.datetime.fromisoformat(whole).replace(tzinfo=datetime.UTC)
    return at.timestamp() + (float(f"0.{fraction}") if fraction.isdigit() else 0.0)
