"""A reversible tokeniser: four bytes of UTF-8 are one token.

A token's number holds its bytes behind a leading one, so decoding needs no vocabulary; numbers that
cannot have come from here (a client's own small ids) decode to a placeholder.
"""

from typing import Final

TOKEN_BYTES: Final = 4


def count_tokens(data: bytes) -> int:
    """Tokens in a text; never builds them."""
    return -(-len(data) // TOKEN_BYTES)


def encode(data: bytes) -> list[int]:
    """The ids of a text's tokens."""
    return [
        int.from_bytes(b"\x01" + data[start : start + TOKEN_BYTES], "big") for start in range(0, len(data), TOKEN_BYTES)
    ]


def decode(ids: list[int]) -> str:
    """The text of some ids; bytes that are not UTF-8 become replacement characters."""
    return b"".join(map(decode_one, ids)).decode("utf-8", "replace")


def decode_one(token: int) -> bytes:
    """The bytes of one id."""
    size = (token.bit_length() + 7) // 8 if token > 0 else 0
    raw = token.to_bytes(size, "big") if size else b""
    if 2 <= size <= TOKEN_BYTES + 1 and raw[0] == 1:
        return raw[1:]
    return b"<%d>" % token


def token_texts(data: bytes) -> list[str]:
    """What each token of a text says, as a tokeniser decodes one by one."""
    return [decode_one(token).decode("utf-8", "replace") for token in encode(data)]


def split_text(text: str) -> list[str]:
    """Cut a text into pieces of at most one token each, never inside of a character."""
    if text.isascii():
        return [text[start : start + TOKEN_BYTES] for start in range(0, len(text), TOKEN_BYTES)]
    pieces: list[str] = []
    piece, size = "", 0
    for character in text:
        width = len(character.encode("utf-8", "replace"))
        if size + width > TOKEN_BYTES:
            pieces.append(piece)
            piece, size = "", 0
        piece, size = piece + character, size + width
    return [*pieces, piece] if piece else pieces
