"""Reads the file of limits and prices."""

from pathlib import Path
from typing import Final

from aibrix_extproc.config_files.errors import SourceFormatError
from aibrix_extproc.config_files.file import read_text
from aibrix_extproc.config_files.nodes import Place, collector_paused, compose
from aibrix_extproc.config_files.plain import fail_at, plain
from aibrix_extproc.core.access.limits.records import LimitFormatError, Record, parse_record

MAX_FILE_BYTES: Final = 8 * 1024 * 1024
MAX_RECORDS: Final = 20_000


def read_limits(path: Path) -> tuple[Record, ...]:
    """The records in a file; raises SourceError with one sentence for its operator."""
    text = read_text(path, MAX_FILE_BYTES, kind="file of limits", too_large="write limits with `*` for many callers")
    with collector_paused():
        return parse_limit_file(text, str(path))


def parse_limit_file(text: str, file: str) -> tuple[Record, ...]:
    """The records of lists `limits` and `prices`."""
    root = compose(text, file)
    if root is None:
        raise SourceFormatError(f"{file}: the file is empty; for no limits write `limits: []`")
    fields = root.fields(known=("limits", "prices"))
    found: dict[str, int] = {}
    records: list[Record] = []
    for field, kind in (("limits", "limit"), ("prices", "price")):
        for item in fields[field].items(MAX_RECORDS) if field in fields else ():
            record = _record(item, kind)
            if record.id in found:
                item.fail(f"the id {record.id} is given already on line {found[record.id]}; change one")
            found[record.id] = item.line
            records.append(record)
    return tuple(records)


def _record(item: Place, kind: str) -> Record:
    item.fields()  # refuses what is no mapping, with its line
    given = plain(item)
    assert isinstance(given, dict)
    try:
        return parse_record({**given, "kind": kind})
    except LimitFormatError as error:
        fail_at(item, error.field, error.reason)
