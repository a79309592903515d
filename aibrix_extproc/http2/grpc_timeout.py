"""The request header `grpc-timeout`."""

import re
from typing import Final

_TIMEOUT: Final = re.compile(rb"([0-9]{1,8})([HMSmun])")
_UNITS: Final = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}


def parse_timeout(text: bytes) -> float | None:
    """The timeout in seconds; None if the text is malformed."""
    parsed = _TIMEOUT.fullmatch(text)
    return None if parsed is None else int(parsed[1]) * _UNITS[parsed[2]]
