"""The report of the stream filter: one text of `name=value` words in Envoy's dynamic metadata."""

from typing import Final

import msgspec

from aibrix_extproc.core.openai.usage import Usage

REPORT_NAMESPACE: Final = "aibrix.usage"
REPORT_KEY: Final = "report"
_MAX_COUNT: Final = 2**53
_MAX_SECONDS: Final = 10_000_000.0


class ReportError(ValueError):
    """A report that makes no sense."""


class Report(msgspec.Struct, frozen=True, gc=False):
    """What the filter saw of one answer."""

    usage: Usage | None = None
    audio_seconds: float = 0.0
    terminal: bool | None = None  # whether a stream's last event came; None if the answer was no stream
    error: str = ""  # code of an error inside of the stream
    unmetered: str = ""  # why a whole answer tells no usage


_NONE: Final = Report()


def read_report(text: str) -> Report:
    """The report, an empty one if there is none; ReportError for words that the filter does not write."""
    if not text:
        return _NONE
    try:
        told = dict(word.split("=") for word in text.split(" "))
    except ValueError as error:
        raise ReportError("a word without a value") from error
    counted = "total_tokens" in told or "input_tokens" in told or "output_tokens" in told
    usage = Usage(*(_count(told.get(name, "0")) for name in Usage.__struct_fields__)) if counted else None
    ended = told.get("terminal")
    return Report(
        usage,
        _seconds(told["audio_seconds"]) if "audio_seconds" in told else 0.0,
        None if ended is None else ended == "true",
        told.get("error", ""),
        told.get("unmetered", ""),
    )


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 16 or (number := int(text)) > _MAX_COUNT:
        raise ReportError("a count that is none")
    return number


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError as error:
        raise ReportError("seconds that are none") from error
    if not 0 <= seconds <= _MAX_SECONDS:
        raise ReportError("seconds that are none")
    return seconds
