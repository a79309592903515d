"""Times to the first token of several strategies as an SVG: which part of the requests had it within how long."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Final

_WIDTH: Final = 640
_HEIGHT: Final = 300
_LEFT: Final = 56
_TOP: Final = 34
_COLOURS: Final = ("#0a7d38", "#c0392b", "#2471a3", "#e08e0b", "#7d3cb5", "#555555", "#0e8a8a", "#a3245b")
_SHARES: Final = (0.5, 0.9, 0.99, 0.999)  # that are written at the axis
_POINTS: Final = 160


def picture(title: str, waits: Mapping[str, Sequence[float]]) -> str:
    """Curves by strategy; `waits` are seconds, sorted. The axis of shares is stretched towards 1, as tails matter."""
    least = min(max(found[0], 0.001) for found in waits.values())
    most = max(max(found[-1], 0.01) for found in waits.values())
    first, last = math.floor(math.log10(least)), math.ceil(math.log10(most))

    def across(seconds: float) -> float:
        place = (math.log10(max(seconds, 10.0**first)) - first) / max(last - first, 1)
        return _LEFT + _WIDTH * place

    bottom = _TOP + _HEIGHT
    parts = [_line(_LEFT, y := _down(share), _LEFT + _WIDTH, y) + _text(4, y + 4, f"{share:.3g}") for share in _SHARES]
    parts += [
        _line(across(10.0**power), _TOP, across(10.0**power), bottom)
        + _text(across(10.0**power) - 10, bottom + 18, f"{10.0**power:g} s")
        for power in range(first, last + 1)
    ]
    for number, (name, found) in enumerate(waits.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        points = " ".join(
            f"{across(found[index]):.1f},{_down((index + 0.5) / len(found)):.1f}" for index in _indices(len(found))
        )
        parts.append(f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="{points}"/>')
        parts.append(_text(_LEFT + 200 * (number % 3), bottom + 42 + 18 * (number // 3), name, colour))
    whole = bottom + 48 + 18 * -(-len(waits) // 3)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_LEFT + _WIDTH + 30} {whole}"'
        ' font-family="sans-serif" font-size="13"><rect width="100%" height="100%" fill="white"/>'
        f"{_text(_LEFT, 20, title)}{''.join(parts)}</svg>\n"
    )


def _indices(size: int) -> list[int]:
    """Of the points that are drawn: more of them in the tail."""
    return sorted(
        {min(int(size * (1 - 10 ** (-3 * step / _POINTS))), size - 1) for step in range(_POINTS + 1)} | {size - 1}
    )


def _down(share: float) -> float:
    return _TOP + _HEIGHT * (1 - min(-math.log10(max(1 - share, 1e-4)) / 3.5, 1.0))


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#dddddd"/>'


def _text(x: float, y: float, words: str, colour: str = "#222222") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}">{escape(words)}</text>'
