"""What the generators draw: lengths, choices and times between arrivals."""

import math
from bisect import bisect
from collections.abc import Iterable
from itertools import accumulate, islice
from random import Random
from typing import Final

from aibrix_extproc.replay.trace import Request

EARLIER_SECONDS: Final = 600.0  # so long before the trace sessions begin, so that it has later turns at once


def lognormal(draw: Random, median: float, sigma: float, *, most: float = math.inf) -> int:
    """A length of at least 1."""
    return max(int(min(draw.lognormvariate(math.log(median), sigma), most)), 1)


def sigma_of(mean: float, median: float) -> float:
    """The sigma of a lognormal distribution with this mean and median."""
    return math.sqrt(2 * math.log(mean / median))


def gamma_gap(draw: Random, rate: float, variation: float) -> float:
    """Seconds to the next arrival; `variation` is the coefficient of variation, 1 for a Poisson process."""
    if variation == 1.0:
        return draw.expovariate(rate)
    shape = 1 / variation**2
    return draw.gammavariate(shape, 1 / (rate * shape))


class Zipf:
    """Numbers from 0 on, the weight of number n being (n + 1) ** -exponent."""

    def __init__(self, size: int, exponent: float) -> None:
        self._sums = list(accumulate((number + 1) ** -exponent for number in range(size)))

    def draw(self, draw: Random) -> int:
        """One of them."""
        return bisect(self._sums, draw.random() * self._sums[-1])


def from_the_start(rows: Iterable[Request], requests: int) -> Iterable[Request]:
    """The first so many requests of second 0 and later."""
    return islice(sorted((one for one in rows if one.at >= 0), key=lambda one: one.at), requests)
