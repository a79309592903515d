"""What the head of an engine's error says of its body and of the next try."""

import math
import re
import zlib
from collections.abc import Mapping
from datetime import datetime
from typing import Final

from aibrix_extproc.core.openai.contract.errors import RETRY_AFTER_MAX_SECONDS, RETRY_AFTER_MIN_SECONDS

_SECONDS: Final = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?")
_DATE: Final = re.compile(r"[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT")
_DATE_FORMAT: Final = "%a, %d %b %Y %H:%M:%S GMT"
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
    """After how many seconds an engine says to ask again; None if it does not, or says it out of shape.

    It is a whole number within the bounds that every SDK honours: some sleep the whole value, some give up above
    120, and 0 means a guess of their own to some. A date counts from the answer's own date.
    """
    after = given.get("retry-after", "").strip()
    seconds = float(after) if _SECONDS.fullmatch(after) else _seconds_until(after, given.get("date", ""))
    if seconds is None:
        return None
    return str(max(RETRY_AFTER_MIN_SECONDS, min(math.ceil(seconds), RETRY_AFTER_MAX_SECONDS)))


def _seconds_until(later: str, now: str) -> float | None:
    """Seconds between two dates of headers; None if one of them is none."""
    if not (_DATE.fullmatch(later) and _DATE.fullmatch(now)):
        return None
    try:
        return (datetime.strptime(later, _DATE_FORMAT) - datetime.strptime(now, _DATE_FORMAT)).total_seconds()  # noqa: DTZ007
    except ValueError:  # the 31st of February
        return None
