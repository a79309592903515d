"""Lines of batches that are done over time, as SVG."""

from collections.abc import Sequence
from dataclasses import dataclass

_WIDTH, _HEIGHT, _LEFT, _TOP = 720, 300, 60, 20


@dataclass(frozen=True, slots=True)
class Line:
    """One scenario: how many lines were done after each second."""

    name: str
    colour: str
    done: Sequence[int]


def picture(drawn: Sequence[Line], half: float, cycles: int) -> str:
    """The scenarios in one picture. Bursts of `half` seconds are grey, with calm times as long after each."""
    most = max(one.done[-1] for one in drawn)
    seconds = 2 * half * cycles

    def place(second: float, lines: float) -> str:
        return f"{_LEFT + _WIDTH * second / seconds:.1f},{_TOP + _HEIGHT * (1 - lines / most):.1f}"

    bursts = "".join(
        f'<rect x="{_LEFT + _WIDTH * number / cycles:.1f}" y="{_TOP}" width="{_WIDTH / (2 * cycles):.1f}"'
        f' height="{_HEIGHT}" fill="#e8e8e8"/>'
        for number in range(cycles)
    )
    step = 5 if seconds > 200 else 1
    lines = "".join(
        f'<polyline fill="none" stroke="{one.colour}" stroke-width="2" points="'
        + " ".join(place(at, one.done[at]) for at in range(0, min(int(seconds) + 1, len(one.done)), step))
        + f'"/><text x="{_LEFT}" y="{_TOP + _HEIGHT + 40 + 18 * number}" fill="{one.colour}">{one.name}</text>'
        for number, one in enumerate(drawn)
    )
    whole = _TOP + _HEIGHT + 40 + 18 * len(drawn)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_LEFT + _WIDTH + 20} {whole}" font-family="sans-serif"'
        f' font-size="13"><rect width="100%" height="100%" fill="white"/>{bursts}{lines}'
        f'<text x="4" y="{_TOP + 10}">{most:,}</text><text x="4" y="{_TOP + _HEIGHT}">0 lines</text>'
        f'<text x="{_LEFT + _WIDTH - 50}" y="{_TOP + _HEIGHT + 16}">{seconds:.0f} s</text></svg>\n'
    )
