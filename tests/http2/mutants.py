"""Conversations of a client over HTTP/2, and mutations of them.

What a run costs is mostly the making of frames, so blocks of headers are encoded once for each sequence of paths, and
frames are put together by hand. The mutations know the protocol: besides bits that flip, they make what is rare by
chance, such as trailers, edge values of settings and windows, and updates of the header table's size. A hundred
thousand frames reach more branches than a million do with flipped bits alone.
"""

import functools
import random
from collections.abc import Callable
from typing import Final

import hpack

from tests.http2 import wire

ORDERS: Final = (b"hello", b"wait", b"break", b"refuse", b"silence", b"finish", b"", b"x" * 3_000)
_BODIES: Final = tuple(map(wire.message, ORDERS))
_DATA, _HEADERS, _PRIORITY, _RESET, _SETTINGS, _PUSH, _PING, _GOAWAY, _WINDOW, _CONTINUATION = range(10)
_END_STREAM, _END_HEADERS, _PADDED = 1, 4, 8
_STREAMS: Final = (0, 1, 2, 3, 5, 7, 2**31 - 1)
_NUMBERS: Final = (0, 1, 2, 16_383, 16_384, 65_535, 2**24 - 1, 2**24, 2**31 - 1, 2**31, 2**32 - 1)
# Fields that a request must not have, or that say something about its body.
_ODD_FIELDS: Final = (
    (":path", wire.ECHO), (":status", "200"), (":scheme", ""), ("te", "gzip"), ("connection", "close"),
    ("X-Upper", "a"), ("x", "a\nb"), ("content-length", "0"), ("content-length", "10"), ("content-length", "x"),
    ("grpc-timeout", "1n"), ("x-long", "v" * 300),
)  # fmt: skip
# Beginnings and ends of blocks: updates of the table's size, indices out of range, numbers of many octets, cut strings.
_ODD_OCTETS: Final = (
    b"\x20", b"\x3f\xe1\x1f", b"\x3f\xff\xff\xff\x7f", b"\x80", b"\xff\x80\x01", b"\xff\xff\xff\xff\xff\xff\x01",
    b"\x0f\x80\x80\x80\x80\x80\x01", b"\x10\x01a\x01b", b"\x00\x01a\x7f\x01", b"\x40\x01a\x01b", b"\x00\x7f",
    b"\x00" * 3, b"\x82" * 400,
)  # fmt: skip


@functools.lru_cache(maxsize=1024)
def _blocks(paths: tuple[str, ...]) -> tuple[bytes, ...]:
    """The header blocks of requests for these paths, by one encoder with its table."""
    encoder = hpack.Encoder()
    requests = ([(name, path if name == ":path" else value) for name, value in wire.REQUEST] for path in paths)
    return tuple(bytes(encoder.encode(request)) for request in requests)


@functools.lru_cache(maxsize=64)
def _odd_block(field: int, *, trailers: bool) -> bytes:
    fields = [*(() if trailers else wire.REQUEST), _ODD_FIELDS[field]]
    return wire.block(fields)


def recorded(dice: random.Random) -> list[bytes]:
    """The frames of a conversation that makes sense."""
    choice, chance = dice.choice, dice.random
    frames = [wire.raw(_SETTINGS, 0, 0, b"\0\4" + choice((0, 100, 65_535)).to_bytes(4, "big"))]
    paths = tuple([choice((wire.ECHO, wire.ECHO, wire.ECHO, "/nothing")) for _ in range(dice.randrange(1, 8))])
    for number, block in enumerate(_blocks(paths)):
        stream = 2 * number + 1
        if chance() < 0.2:
            frames.append(wire.raw(_HEADERS, 0, stream, block[:7]))
            frames.append(wire.raw(_CONTINUATION, _END_HEADERS, stream, block[7:]))
        else:
            frames.append(wire.raw(_HEADERS, _END_HEADERS, stream, block))
        body = b"".join([choice(_BODIES) for _ in range(dice.randrange(4))])
        border = dice.randrange(len(body) + 1)
        frames.append(wire.raw(_DATA, 0, stream, body[:border]))
        padded = chance() < 0.5
        frames.append(wire.raw(_DATA, _PADDED, stream, b"\x09" + body[border:] + bytes(9)) if padded
                      else wire.raw(_DATA, 0, stream, body[border:]))  # fmt: skip
        end = dice.randrange(5)
        if end == 0:
            frames.append(wire.raw(_RESET, 0, stream, b"\0\0\0\x08"))
        elif end == 1:
            frames.append(wire.raw(_DATA, _END_STREAM, stream))
        elif end == 2:
            frames.append(wire.window_update(stream, 999))
        elif end == 3:
            frames.append(wire.raw(_HEADERS, _END_HEADERS | _END_STREAM, stream, _odd_block(10, trailers=True)))
        between = dice.randrange(5)
        if between == 0:
            frames.append(wire.raw(_PING, 0, 0, b"12345678"))
        elif between == 1:
            frames.append(wire.window_update(0, 999))
        elif between == 2:
            frames.append(wire.raw(_SETTINGS, 1, 0))
    return frames


def _flip(dice: random.Random, frames: list[bytes]) -> None:
    at = dice.randrange(len(frames))
    frame = bytearray(frames[at])
    for _ in range(dice.choice((1, 1, 2, 8))):
        frame[dice.randrange(len(frame))] ^= 1 << dice.randrange(8)
    frames[at] = bytes(frame)


def _reframe(dice: random.Random, frames: list[bytes]) -> None:
    """Another type, other flags, another stream; a length that is right."""
    at = dice.randrange(len(frames))
    kind, flags = dice.choice((*range(11), frames[at][3])), dice.choice((dice.randrange(64), frames[at][4]))
    frames[at] = wire.raw(kind, flags, dice.choice(_STREAMS), frames[at][9:])


def _swap(dice: random.Random, frames: list[bytes]) -> None:
    a, b = dice.randrange(len(frames)), dice.randrange(len(frames))
    frames[a], frames[b] = frames[b], frames[a]


def _repeat(dice: random.Random, frames: list[bytes]) -> None:
    frames.insert(dice.randrange(len(frames)), dice.choice(frames))


def _lose(dice: random.Random, frames: list[bytes]) -> None:
    if len(frames) > 1:
        del frames[dice.randrange(len(frames))]


def _cut(dice: random.Random, frames: list[bytes]) -> None:
    at = dice.randrange(len(frames))
    payload = frames[at][9 : 9 + dice.randrange(len(frames[at]))]
    frames[at] = wire.raw(frames[at][3], frames[at][4], int.from_bytes(frames[at][5:9], "big"), payload)


def _invent(dice: random.Random, frames: list[bytes]) -> None:
    payload = dice.randbytes(dice.choice((0, 1, 4, 5, 6, 8, 50)))
    frames.insert(
        dice.randrange(len(frames)), wire.raw(dice.randrange(12), dice.randrange(256), dice.randrange(9), payload)
    )


def _at_an_edge(dice: random.Random, frames: list[bytes]) -> None:
    """A frame whose number is at the edge of what is allowed."""
    number = dice.choice(_NUMBERS).to_bytes(4, "big")
    stream, flags = dice.choice(_STREAMS), dice.choice((0, 0, 1))
    made = (
        wire.raw(_SETTINGS, 0, 0, dice.randrange(9).to_bytes(2, "big") + number),
        wire.raw(_WINDOW, 0, stream, number),
        wire.raw(_RESET, 0, stream, number),
        wire.raw(_PRIORITY, 0, stream, number + b"\x10"),
        wire.raw(_PING, flags, 0, number + number),
        wire.raw(_GOAWAY, 0, 0, number + number),
    )
    frames.insert(dice.randrange(len(frames) + 1), dice.choice(made))


def _add_headers(dice: random.Random, frames: list[bytes]) -> None:
    """Headers or trailers with a field that says too much."""
    block = _odd_block(dice.randrange(len(_ODD_FIELDS)), trailers=dice.random() < 0.5)
    flags, stream = dice.choice((_END_HEADERS, _END_HEADERS | _END_STREAM)), dice.choice((1, 3, 5, 7, 9, 15, 17))
    frames.insert(dice.randrange(len(frames) + 1), wire.raw(_HEADERS, flags, stream, block))


def _alter_block(dice: random.Random, frames: list[bytes]) -> None:
    """Odd octets before, behind or in the middle of a header block."""
    blocks = [at for at, frame in enumerate(frames) if frame[3] == _HEADERS and len(frame) > 9]
    if blocks:
        at = dice.choice(blocks)
        head, block = frames[at][:9], frames[at][9:]
        border = dice.choice((0, len(block), dice.randrange(len(block))))
        altered = block[:border] + dice.choice(_ODD_OCTETS) + block[border:]
        frames[at] = wire.raw(head[3], head[4], int.from_bytes(head[5:9], "big"), altered)


MUTATIONS: Final[tuple[Callable[[random.Random, list[bytes]], None], ...]] = (
    _flip, _flip, _reframe, _swap, _repeat, _lose, _cut, _invent, _at_an_edge, _add_headers, _alter_block,
)  # fmt: skip


def mutated(dice: random.Random) -> list[bytes]:
    """The frames of a conversation after one mutation or some."""
    frames = recorded(dice)
    for _ in range(dice.choice((1, 1, 2, 5))):
        dice.choice(MUTATIONS)(dice, frames)
    return frames
