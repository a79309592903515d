"""Numbers that no model computed: embeddings, scores and class probabilities, stable for a text."""

import math
import random
import zlib
from array import array
from functools import lru_cache
from typing import Final

_TABLE_LENGTH: Final = 8192
_CLASSES: Final = 2


@lru_cache(maxsize=1)
def _table() -> "array[float]":
    rng = random.Random(20240517)
    return array("f", (rng.gauss(0, 1) for _ in range(_TABLE_LENGTH)))


@lru_cache(maxsize=4096)
def _unit(start: int, dimensions: int) -> "array[float]":
    table = _table()
    values = array("f")
    while len(values) < dimensions:
        values += table[start:] + table[:start]
    values = values[:dimensions]
    norm = math.sqrt(sum(value * value for value in values))
    return array("f", (value / norm for value in values))


def embedding(data: bytes, dimensions: int) -> "array[float]":
    """A vector of length one; texts that differ point elsewhere (nearly always)."""
    return _unit(zlib.crc32(data) % _TABLE_LENGTH, dimensions)


def relevance(query: str, document: str) -> float:
    """Between 0 and 1: the part of the query's words that the document has, and a trace of its own."""
    words = set(query.lower().split())
    shared = len(words & set(document.lower().split())) / len(words) if words else 0.0
    trace = zlib.crc32(document.encode("utf-8", "replace"), len(query)) % 1000 / 1e5
    return 0.01 + 0.97 * shared + trace


def class_probabilities(data: bytes) -> list[float]:
    """Probabilities of the classes, together one."""
    first = 0.05 + 0.9 * (zlib.crc32(data) % 1000) / 1000
    return [first, *((1 - first) / (_CLASSES - 1) for _ in range(_CLASSES - 1))]
