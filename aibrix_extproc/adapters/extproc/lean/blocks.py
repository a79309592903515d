"""Header blocks: decoded by hpack within bounds, remembered where that is safe, checked as RFC 9113 wants requests."""

from typing import Final

import hpack

from aibrix_extproc.adapters.extproc.lean.faults import ConnectionFault
from aibrix_extproc.adapters.extproc.lean.frames import ErrorCode
from aibrix_extproc.adapters.extproc.lean.limits import Limits

HeaderList = list[tuple[bytes, bytes]]
MAX_REMEMBERED: Final = 64
_UNREADABLE: Final = (hpack.HPACKError, IndexError, ValueError, RecursionError, OverflowError)

_PSEUDO: Final = frozenset({b":method", b":scheme", b":path", b":authority"})
_NEEDED: Final = frozenset({b":method", b":scheme", b":path"})
_FORBIDDEN: Final = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"})


class Blocks:
    """The decoder of one connection."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._decoder = hpack.Decoder(limits.header_list_bytes)
        self._remembered: dict[bytes, HeaderList] = {}

    def decode(self, block: bytes) -> HeaderList:
        """The headers of a whole block. Raises ConnectionFault: a block that cannot be read ruins the table."""
        known = self._remembered.get(block)
        if known is not None:
            return known
        if len(block) > self._limits.header_block_bytes:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "a header block is too large")
        try:
            headers: HeaderList = [(bytes(name), bytes(value)) for name, value in self._decoder.decode(block, raw=True)]
        except hpack.OversizedHeaderListError as error:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "a header list is too large") from error
        except _UNREADABLE as error:
            raise ConnectionFault(ErrorCode.COMPRESSION_ERROR, "a header block cannot be read") from error
        self._remember(block, headers)
        return headers

    def _remember(self, block: bytes, headers: HeaderList) -> None:
        """Only indexed fields leave the table as it is; such a block means the same until another one changes it.

        Envoy's calls differ in nothing, so nearly every block is one of these: 1 us instead of 30.
        """
        if not all(0x80 < octet < 0xFF for octet in block):
            self._remembered.clear()
        elif len(self._remembered) < MAX_REMEMBERED:
            self._remembered[block] = headers


def well_formed(headers: HeaderList) -> bool:
    """RFC 9113, 8.2 and 8.3: pseudo headers first, each once, those that a request needs; lower-case names."""
    seen: set[bytes] = set()
    regular = False
    for name, value in headers:
        if name.startswith(b":"):
            if regular or name in seen or name not in _PSEUDO or (name == b":path" and not value):
                return False
            seen.add(name)
        else:
            regular = True
            if not name or name != name.lower() or name in _FORBIDDEN or (name == b"te" and value != b"trailers"):
                return False
    return seen >= _NEEDED
