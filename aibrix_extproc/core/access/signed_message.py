"""A signature over what our processes send each other: who sends it, what kind it is, its content, its expiry.

It is a signed statement (`signed_caller`) whose request id is the digest of the content. So the shared secrets are
enough, and a message is not valid as another kind, nor as a header of a client's request.
"""

import hashlib
from collections.abc import Sequence
from typing import Final

from aibrix_extproc.core.access.signed_caller import LIFE_SECONDS, SignedCaller, sign, verify

SIGNATURE: Final = "x-aibrix-signed-message"  # the header


def sign_message(key: bytes, kind: str, sender: str, wall_now: float, *content: bytes) -> str:
    """The value of the header."""
    expires = int(wall_now) + LIFE_SECONDS
    return sign(key, SIGNATURE, SignedCaller(sender, _digest(content), kind, expires))


def claimed(keys: Sequence[bytes], kind: str, value: str | None, wall_now: float) -> SignedCaller | None:
    """The statement of a signature of this kind, before its content was read; None if none of ours has made it."""
    return verify(keys, SIGNATURE, value, kind, wall_now)


def covers(statement: SignedCaller, *content: bytes) -> bool:
    """Whether a statement was made about this content."""
    return statement.request_id == _digest(content)


def _digest(content: Sequence[bytes]) -> str:
    whole = hashlib.sha256()
    for piece in content:
        whole.update(len(piece).to_bytes(8))
        whole.update(piece)
    return whole.hexdigest()
