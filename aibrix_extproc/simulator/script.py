"""What the engine says: the tokens of one answer, decided in full before the first one is sent.

Every token is exactly four bytes, so that counting the answer's text gives the same number again.
"""

import zlib
from dataclasses import dataclass
from typing import Final

from aibrix_extproc.simulator.tokenizer import split_text

# Three ASCII letters, or one letter and a two-byte one, or one three-byte character, each behind a space.
_TEXT: Final = (
    "the sun was low and red one old man sat out far for his son did not see him yet but the sky had "
    "led him far off who can say why all men now ask how the sea got its own law day né 日 海 pâ "
    "any new way was his too she and her cat ran off for the big dry hut nor did they two sit by it"
)
_WORDS: Final = tuple(f" {word}" for word in _TEXT.split() if len(word.encode()) == 3)
_CYCLE_LENGTH: Final = 4096


def _word_cycle() -> tuple[str, ...]:
    """A long walk over the words with a fixed linear congruence: no random numbers, no visible period."""
    state, cycle = 12345, []
    for _ in range(_CYCLE_LENGTH):
        state = (state * 1103515245 + 12345) & 0x7FFFFFFF
        cycle.append(_WORDS[(state >> 16) % len(_WORDS)])
    return tuple(cycle)


_CYCLE: Final = _word_cycle()


@dataclass(frozen=True, slots=True)
class Script:
    """One choice: its tokens and how it ends."""

    pieces: tuple[str, ...]
    finish_reason: str
    stop_reason: str | None = None

    @property
    def text(self) -> str:
        """The whole answer."""
        return "".join(self.pieces)


@dataclass(frozen=True, slots=True)
class Bounds:
    """What ends an answer."""

    max_tokens: int
    stop: tuple[str, ...] = ()
    keep_stop: bool = False
    min_tokens: int = 0


def word_tokens(seed: int, prompt: bytes, choice: int, count: int) -> tuple[str, ...]:
    """`count` tokens that depend on nothing but the arguments."""
    start = zlib.crc32(prompt, (seed * 2654435761 + choice * 40503) & 0xFFFFFFFF) % _CYCLE_LENGTH
    whole, rest = divmod(start + count, _CYCLE_LENGTH)
    return (_CYCLE * whole + _CYCLE[:rest])[start:] if count else ()


def write_script(pieces: tuple[str, ...], bounds: Bounds) -> Script:
    """Cut an answer to its bounds."""
    limited = pieces[: bounds.max_tokens]
    if bounds.stop:
        earliest = len("".join(limited[: bounds.min_tokens]))
        cut = _first_stop("".join(limited), earliest, bounds)
        if cut is not None:
            text, stop = cut
            return Script(_keep(limited, len(text), text), "stop", stop)
    return Script(limited, "length" if len(pieces) > bounds.max_tokens else "stop")


def text_script(text: str, bounds: Bounds) -> Script:
    """The script of a given text."""
    return write_script(tuple(split_text(text)), bounds)


def _first_stop(text: str, earliest: int, bounds: Bounds) -> tuple[str, str] | None:
    found = [(at, stop) for stop in bounds.stop if stop and (at := text.find(stop, earliest)) >= 0]
    if not found:
        return None
    at, stop = min(found)
    return (text[: at + len(stop)] if bounds.keep_stop else text[:at]), stop


def _keep(pieces: tuple[str, ...], length: int, text: str) -> tuple[str, ...]:
    """The pieces of the first `length` characters, the last one cut."""
    kept: list[str] = []
    position = 0
    for piece in pieces:
        if position >= length:
            break
        kept.append(text[position : position + len(piece)])
        position += len(piece)
    return tuple(kept)
