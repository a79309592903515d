"""The report of the stream filter: one text of `name=value` words in Envoy's dynamic metadata."""

from typing import Final

import msgspec

from aibrix_extproc.core.openai.wire.usage import Usage

REPORT_NAMESPACE: Final = "aibrix.usage"
REPORT_KEY: Final = "report"
_COUNTS: Final = Usage.__struct_fields__
_COUNTED: Final = frozenset({"total_tokens", "input_tokens", "output_tokens"})  # one of them makes a usage
_MAX_COUNT: Final = 2**53
_MAX_DIGITS: Final = 16 * len(_COUNTS)
_MAX_SECONDS: Final = 10_000_000.0


class ReportError(ValueError):
    """A report that makes no sense."""


class Report(msgspec.Struct, frozen=True, gc=False):
    """The stream filter's report of one answer."""

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
        told = dict([word.split("=") for word in text.split(" ")])  # a list is quicker than a generator here
    except ValueError as error:
        raise ReportError("a word without a value") from error
    usage = None if _COUNTED.isdisjoint(told) else Usage(*_counts([told.get(name, "0") for name in _COUNTS]))
    ended = told.get("terminal")
    return Report(
        usage,
        _seconds(told["audio_seconds"]) if "audio_seconds" in told else 0.0,
        None if ended is None else ended == "true",
        told.get("error", ""),
        told.get("unmetered", ""),
    )


def _counts(texts: list[str]) -> list[int]:
    digits = "".join(texts)
    if not (digits.isascii() and digits.isdigit()) or "" in texts or len(digits) > _MAX_DIGITS:
        raise ReportError("a count that is none")
    counts = list(map(int, texts))
    if max(counts) > _MAX_COUNT:
        raise ReportError("a count that is too large")
    return counts


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError as error:
        raise ReportError("seconds that are none") from error
    if not 0 <= seconds <= _MAX_SECONDS:
        raise ReportError("seconds that are none")
    return seconds
