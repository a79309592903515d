"""What the head of an engine's error says of its body and of the next try."""

import re
import zlib
from collections.abc import Mapping
from typing import Final

MAX_RETRY_SECONDS: Final = 3_600  # a longer wait is told as this one

_SECONDS: Final = re.compile(r"[0-9]{1,9}")
_DATE: Final = re.compile(
    r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), [0-3][0-9] (?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [0-9]{4} "
    r"[0-2][0-9]:[0-5][0-9]:[0-6][0-9] GMT"
)
_GZIP, _ZLIB, _RAW = 31, 15, -15  # window bits of zlib
_FORMATS: Final = {"gzip": (_GZIP,), "x-gzip": (_GZIP,), "deflate": (_ZLIB, _RAW)}


def unpacked(encoding: str, body: bytes, limit: int) -> bytes:
    """At most `limit` bytes of a body without its content coding; empty if that cannot be undone.

    No more than `limit` bytes are read or made, so a body that is made to grow costs what an honest one does.
    """
    coding = encoding.strip().lower()
    if coding in ("", "identity"):
        return body[:limit]
    for window in _FORMATS.get(coding, ()):
        try:
            return zlib.decompressobj(window).decompress(body[:limit], limit)
        except zlib.error:
            continue
    return b""


def retry_after(given: Mapping[str, str]) -> str | None:
    """When an engine says to ask again, seconds or a date; None if it does not, or says it out of shape."""
    after = given.get("retry-after", "").strip()
    if _SECONDS.fullmatch(after):
        return str(min(int(after), MAX_RETRY_SECONDS))
    return after if _DATE.fullmatch(after) else None
