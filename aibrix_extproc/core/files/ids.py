"""Ids of stored objects. Their random part is an argument, since core draws no random numbers."""

import re
from typing import Final

_ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_LENGTH: Final = 24  # of 62 characters each: 142 bits, nobody guesses one
ENTROPY_BYTES: Final = 18

_ID: Final = re.compile(r"[A-Za-z]+[-_][0-9A-Za-z]{1,64}")


def file_id(entropy: bytes) -> str:
    """Id of a file, from ENTROPY_BYTES random bytes."""
    return "file-" + _text(entropy)


def upload_id(entropy: bytes) -> str:
    """Id of an upload, from ENTROPY_BYTES random bytes."""
    return "upload_" + _text(entropy)


def part_id(entropy: bytes) -> str:
    """Id of a part of an upload, from ENTROPY_BYTES random bytes."""
    return "part_" + _text(entropy)


def batch_id(entropy: bytes) -> str:
    """Id of a batch, from ENTROPY_BYTES random bytes."""
    return "batch_" + _text(entropy)


def operation_id(entropy: bytes) -> str:
    """Id of an operation run, from ENTROPY_BYTES random bytes."""
    return "op_" + _text(entropy)


def cordon_id(entropy: bytes) -> str:
    """Id of a cordon, from ENTROPY_BYTES random bytes."""
    return "cordon_" + _text(entropy)


def is_id(text: str) -> bool:
    """Whether a client's text can be an id of ours; anything else names nothing and reaches no database."""
    return len(text) <= 80 and _ID.fullmatch(text) is not None


def _text(entropy: bytes) -> str:
    number = int.from_bytes(entropy, "big")
    found = []
    for _ in range(_LENGTH):
        number, digit = divmod(number, len(_ALPHABET))
        found.append(_ALPHABET[digit])
    return "".join(found)
