"""Changes to a body at known places, so that all its other bytes stay as the client wrote them."""

import ctypes
from collections.abc import Iterable
from typing import Final, overload

import msgspec

from aibrix_extproc.rope import Piece, Rope, cut, rope_of


class Edit(msgspec.Struct, frozen=True, gc=False):
    """Bytes `start:end` become `text`; an insertion where both are equal."""

    start: int
    end: int
    text: bytes


class _Buffer(ctypes.Structure):
    """CPython's Py_buffer."""

    _fields_ = (
        ("buf", ctypes.c_void_p), ("obj", ctypes.py_object), ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t), ("readonly", ctypes.c_int), ("ndim", ctypes.c_int),
        ("format", ctypes.c_char_p), ("shape", ctypes.c_void_p), ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p), ("internal", ctypes.c_void_p),
    )  # fmt: skip


_acquire: Final = ctypes.pythonapi.PyObject_GetBuffer
_release: Final = ctypes.pythonapi.PyBuffer_Release


def _address(data: object) -> int:
    view = _Buffer()
    _acquire(ctypes.py_object(data), ctypes.byref(view), 0)
    address = view.buf or 0
    _release(ctypes.byref(view))
    return address


def offset(body: bytes, raw: msgspec.Raw) -> int:
    """Where a value that msgspec found in a body begins.

    msgspec keeps such a value as a view of the body, and has no other way to tell its place. To search for its bytes
    would find copies of them in other members.
    """
    at = _address(raw) - _address(body)
    if not 0 <= at <= len(body) - len(raw):
        raise AssertionError("the value is not part of the body")
    return at


def in_order(edits: Iterable[Edit]) -> tuple[Edit, ...]:
    """Edits from front to back."""
    return tuple(sorted(edits, key=lambda edit: edit.start))


@overload
def spliced(body: bytes, edits: tuple[Edit, ...]) -> bytes: ...
@overload
def spliced(body: Rope, edits: tuple[Edit, ...]) -> Rope: ...
def spliced(body: bytes | Rope, edits: tuple[Edit, ...]) -> bytes | Rope:
    """The body after edits that are in order and do not overlap."""
    return _spliced_rope(body, edits) if isinstance(body, Rope) else _spliced_bytes(body, edits)


def _spliced_rope(body: Rope, edits: tuple[Edit, ...]) -> Rope:
    bounds = [0]
    for edit in edits:
        bounds += (edit.start, edit.end)
    # Every other part is what an edit replaces.
    kept = cut(body, *bounds, body.size)[::2]
    pieces: list[Piece] = [*kept[0]]
    for edit, part in zip(edits, kept[1:], strict=True):
        pieces += (edit.text, *part)
    return rope_of(pieces)


def _spliced_bytes(body: bytes, edits: tuple[Edit, ...]) -> bytes:
    pieces: list[bytes] = []
    at = 0
    for edit in edits:
        pieces += (body[at : edit.start], edit.text)
        at = edit.end
    pieces.append(body[at:])
    return b"".join(pieces)
