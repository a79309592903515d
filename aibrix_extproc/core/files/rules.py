"""What a client may say of a file: purpose, name, time to live, and what becomes of it."""

import re
import unicodedata
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

from aibrix_extproc.core.openai.contract.errors import Problem
from aibrix_extproc.core.openai.contract.refusals import json_type, out_of_range, unsupported
from aibrix_extproc.core.openai.contract.stored import DAY_SECONDS, PURPOSES

MIN_LIFE_SECONDS: Final = 3600
MAX_LIFE_SECONDS: Final = 30 * DAY_SECONDS
MAX_NAME_CHARACTERS: Final = 255

_DIGITS: Final = re.compile(r"[0-9]{1,12}")
_NOT_ASCII_NAME: Final = re.compile(r'[^ -~]|["\\%]')


def checked_purpose(purpose: str | None) -> str | Problem:
    """A purpose that clients may store files for."""
    if not purpose:
        return Problem("missing_required_parameter", {"param": "purpose"}, param="purpose")
    if purpose in PURPOSES:
        return purpose
    return unsupported("purpose", purpose, tuple(PURPOSES))


def clean_name(name: str | None) -> str:
    """A client's file name as it is kept: the last segment of a path, printable, bounded. Never a path of ours."""
    last = (name or "").replace("\\", "/").rsplit("/", 1)[-1]
    composed = unicodedata.normalize("NFC", last[: 4 * MAX_NAME_CHARACTERS])
    printable = "".join(char for char in composed if char.isprintable() and not 0xD800 <= ord(char) <= 0xDFFF)
    return printable.strip()[:MAX_NAME_CHARACTERS] or "upload"


def checked_format(purpose: str, filename: str) -> Problem | None:
    """The refusal of a file whose kind does not fit its purpose."""
    if purpose == "batch" and not filename.lower().endswith(".jsonl"):
        return Problem("invalid_batch_file")
    return None


def life_of_form(anchor: str | None, seconds: str | None) -> int | Problem | None:
    """`expires_after[anchor]` and `expires_after[seconds]` of a form: seconds to live, or None if neither is there."""
    if anchor is None and seconds is None:
        return None
    if seconds is not None and _DIGITS.fullmatch(seconds) is None:
        return _not_an_integer("a string")
    return checked_life({"anchor": anchor, "seconds": None if seconds is None else int(seconds)}, "expires_after")


def checked_life(given: object, param: str) -> int | Problem | None:
    """An `expires_after` object: seconds to live; None if it is null or absent."""
    if given is None:
        return None
    if not isinstance(given, Mapping):
        return Problem("invalid_type", {"param": param, "expected": "an object", "got": json_type(given)}, param=param)
    anchor, seconds = given.get("anchor"), given.get("seconds")
    for name, value in (("anchor", anchor), ("seconds", seconds)):
        if value is None:
            full = f"{param}.{name}"
            return Problem("missing_required_parameter", {"param": full}, param=full)
    if anchor != "created_at":
        return unsupported(f"{param}.anchor", str(anchor), ("created_at",))
    if not isinstance(seconds, int) or isinstance(seconds, bool):
        return _not_an_integer(json_type(seconds), param)
    if not MIN_LIFE_SECONDS <= seconds <= MAX_LIFE_SECONDS:
        return out_of_range(f"{param}.seconds", seconds, MIN_LIFE_SECONDS, MAX_LIFE_SECONDS)
    return seconds


def _not_an_integer(got: str, param: str = "expires_after") -> Problem:
    full = f"{param}.seconds"
    return Problem("invalid_type", {"param": full, "expected": "an integer", "got": got}, param=full)


def expiry(purpose: str, created_at: int, life_seconds: int | None) -> int | None:
    """When a file ends, in seconds since the epoch: as its client says, else by its purpose."""
    life = PURPOSES.get(purpose) if life_seconds is None else life_seconds
    return None if life is None else created_at + life


def not_satisfiable(size: int) -> Problem:
    """The refusal of a range behind the end, with the size that RFC 9110 wants told."""
    return Problem("range_not_satisfiable", headers=(("content-range", f"bytes */{size}"),))


def content_disposition(filename: str) -> str:
    """The header that makes a client save the content under its name: RFC 6266, with an ASCII fallback (RFC 5987)."""
    plain = _NOT_ASCII_NAME.sub("_", filename)
    header = f'attachment; filename="{plain}"'
    return header if plain == filename else f"{header}; filename*=UTF-8''{quote(filename, safe='')}"
