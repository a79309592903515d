"""API keys: parsed from headers, compared as hashes in constant time."""

import hashlib
import hmac
from collections.abc import Iterable

from aibrix_extproc.core.openai.caller import ANYONE, Caller
from aibrix_extproc.core.openai.errors import Problem, masked


def presented_key(authorization: str | None, x_api_key: str | None) -> str | None:
    """The key a client sent: a Bearer credential, or Anthropic's x-api-key. None if there is no usable one."""
    if authorization is not None:
        scheme, _, credential = authorization.strip().partition(" ")
        credential = credential.strip()
        return credential if scheme.lower() == "bearer" and credential else None
    return x_api_key.strip() or None if x_api_key is not None else None


class KeyRing:
    """The keys that the gateway accepts; an empty ring accepts everyone."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._hashes = {_hash(key): Caller(f"key-{number}") for number, key in enumerate(keys, 1)}

    def authenticate(self, authorization: str | None, x_api_key: str | None) -> Caller | Problem:
        """The caller behind the credentials, or the 401."""
        if not self._hashes:
            return ANYONE
        key = presented_key(authorization, x_api_key)
        if key is None:
            return Problem("missing_api_key")
        given = _hash(key)
        # A lookup by SHA-256 leaks nothing useful; the comparison of the hit is constant-time all the same.
        for known, caller in self._hashes.items():
            if hmac.compare_digest(known, given):
                return caller
        return Problem("invalid_api_key", {"key": masked(key)})


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
