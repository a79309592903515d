"""The report of the stream filter: one text of `name=value` words in Envoy's dynamic metadata.

Numbers and flags are written as in JSON. So the text becomes an object by three replacements, and one typed decoder
reads and checks all of it.
"""

import re
from typing import Annotated, Final

import msgspec

from aibrix_extproc.core.openai.wire.usage import Usage

REPORT_NAMESPACE: Final = "aibrix.usage"
REPORT_KEY: Final = "report"
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
_Seconds = Annotated[float, msgspec.Meta(ge=0, le=10_000_000.0)]
_TEXTS: Final = re.compile(rb"\b(error|unmetered)=([A-Za-z0-9_.-]*)")


class ReportError(ValueError):
    """A report that makes no sense."""


class Report(msgspec.Struct, frozen=True, gc=False):
    """The stream filter's report of one answer."""

    input_tokens: _Count | None = None
    output_tokens: _Count | None = None
    total_tokens: _Count | None = None
    cached_tokens: _Count = 0
    reasoning_tokens: _Count = 0
    audio_seconds: _Seconds = 0.0
    events: _Count = 0  # of a stream, the last time that they were counted
    event_bytes: _Count = 0  # of these events
    first_seconds: _Seconds | None = None  # of a stream, from its head to its first event
    terminal: bool | None = None  # whether a stream's last event came; None if the answer was no stream
    error: str = ""  # code of an error inside of the stream
    unmetered: str = ""  # why a whole answer tells no usage

    @property
    def usage(self) -> Usage | None:
        """The tokens of the answer; one of the three counts makes a usage."""
        if self.input_tokens is self.output_tokens is self.total_tokens is None:
            return None
        return Usage(
            self.input_tokens or 0, self.output_tokens or 0, self.total_tokens or 0, self.cached_tokens,
            self.reasoning_tokens,
        )  # fmt: skip


_NONE: Final = Report()
_decode = msgspec.json.Decoder(Report).decode


def read_report(text: bytes) -> Report:
    """The report, an empty one if there is none; ReportError for words that the filter does not write."""
    if not text:
        return _NONE
    try:
        return _decode(_as_json(text))
    except msgspec.DecodeError:
        pass  # it may hold texts, as few do
    try:
        return _decode(_as_json(_TEXTS.sub(rb'\1="\2"', text)))
    except msgspec.DecodeError as error:
        raise ReportError("words that the filter does not write") from error


def _as_json(words: bytes) -> bytes:
    return b'{"' + words.replace(b"=", b'":').replace(b" ", b',"') + b"}"
