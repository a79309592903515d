"""URLs in requests that engines would fetch: which hosts they may name, where an operator says so.

One search over the bytes, without a tree. A name is judged as it is written: where it leads is known to DNS only, so a
public name that leads inside is the engine's to refuse (vLLM: `--allowed-media-domains`), redirects as well.
"""

import ipaddress
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Final

import msgspec

from aibrix_extproc.core.openai.contract.errors import Problem

MAX_URLS: Final = 1_000  # of one request
MAX_LOOK_ALIKES: Final = 5_000  # names that end like those of URLs
MAX_ESCAPED_QUOTES: Final = 8  # in one URL; a plain one has none
MAX_URL_BYTES: Final = 8_192  # as JSON; one with its data inside may be longer
# Both patterns begin with plain bytes, which `re` finds a hundred times faster than anything else.
_KEY_END: Final = re.compile(rb'url"[ \t\r\n]*+:[ \t\r\n]*+"')
_KEY_STARTS: Final = tuple(b'"' + name for name in (b"", b"image_", b"audio_", b"video_", b"file_", b"server_"))
_LONGEST_START: Final = max(map(len, _KEY_STARTS))
# No encoder escapes letters or underscores, but whoever hides a name from this search.
_ESCAPED_LETTER: Final = re.compile(rb"\\u00(?:5[fF]|6[1-9a-fA-F]|7[0-9aA])")
_URL: Final = re.compile(r"https?://([a-z0-9.-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?(?:[/?#].*)?", re.DOTALL)
_NUMERIC: Final = re.compile(r"(?:0x[0-9a-f]*|[0-9]+)")
_INSIDE: Final = ("localhost", "local", "internal", "svc", "cluster", "lan", "home", "intranet")
_STRING: Final = msgspec.json.Decoder(str)


def forbidden_url(body: bytes, hosts: tuple[str, ...]) -> Problem | None:
    """The refusal of a JSON body with a URL of another host than these patterns; the body must be valid JSON."""
    if _escapes_letters(body):
        return Problem("media_url_refused", {"reason": "letters must not be escaped where URLs are checked"})
    reason = next((found for found in _objections(body, hosts) if found), None)
    return None if reason is None else Problem("media_url_refused", {"reason": reason})


def _escapes_letters(body: bytes) -> bool:
    if b"\\u00" not in body:
        return False
    # Behind a backslash that is escaped itself stands no escape.
    plain = body.replace(b"\\\\", b"  ") if b"\\\\u00" in body else body
    return _ESCAPED_LETTER.search(plain) is not None


def _objections(body: bytes, hosts: tuple[str, ...]) -> Iterator[str | None]:
    urls = 0
    for look_alikes, key in enumerate(_KEY_END.finditer(body), 1):
        at = key.start()
        if body[max(0, at - _LONGEST_START) : at].endswith(_KEY_STARTS):
            urls += 1
            yield _objection(body, key.end(), hosts)
        if urls > MAX_URLS or look_alikes > MAX_LOOK_ALIKES:
            yield "there are too many"


def _objection(body: bytes, start: int, hosts: tuple[str, ...]) -> str | None:
    """Why a string that begins here may not be fetched; None if it may."""
    if body.startswith(b"data:", start):
        return None
    end = _string_end(body, start)
    if end is None:
        return f"one is longer than {MAX_URL_BYTES} bytes, or not plain"
    try:
        text = _STRING.decode(body[start - 1 : end]).strip().lower()
    except msgspec.DecodeError:
        return "one cannot be read"
    if text.startswith("data:"):
        return None
    found = _URL.fullmatch(text)
    if found is None:
        return "only plain http and https URLs are allowed"
    return None if is_allowed(found[1], hosts) else "its host is not allowed here"


def _string_end(body: bytes, start: int) -> int | None:
    """The place behind the string's closing quote: the first one with an even number of backslashes before it."""
    at = start
    for _ in range(MAX_ESCAPED_QUOTES + 1):
        quote = body.find(b'"', at, start + MAX_URL_BYTES)
        if quote < 0:
            return None
        text = body[start:quote]
        if (len(text) - len(text.rstrip(b"\\"))) % 2 == 0:
            return quote + 1
        at = quote + 1
    return None


def is_allowed(host: str, hosts: tuple[str, ...]) -> bool:
    """Whether a host, in lower case, is listed. A wildcard stands for public hosts only; others are listed in full."""
    host = host.removesuffix(".")
    if host in hosts:
        return True
    return _is_public(host) and any(fnmatchcase(host, pattern) for pattern in hosts)


def _is_public(host: str) -> bool:
    if host.startswith("["):
        return False  # an IPv6 address may hold another one in many ways
    labels = host.split(".")
    if _NUMERIC.fullmatch(labels[-1]):
        return _is_public_address(host)
    return len(labels) > 1 and all(labels) and labels[-1] not in _INSIDE


def _is_public_address(host: str) -> bool:
    """Only four decimal numbers: 127.1, 0x7f000001 and 2130706433 are addresses, too, and no client writes them."""
    try:
        return ipaddress.IPv4Address(host).is_global
    except ValueError:
        return False
