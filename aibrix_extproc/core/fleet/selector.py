"""Kubernetes' label selectors, as `kubectl -l` takes them: `tier=fast,zone in (a,b),!canary,gpus>4`."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from aibrix_extproc.core.fleet.model import Endpoint

# Eight requirements over a thousand endpoints take up to a millisecond, in which no other exchange goes on.
MAX_SELECTOR_CHARACTERS: Final = 1024
MAX_TERMS: Final = 8

_TOKEN: Final = re.compile(r"\s*(==|!=|[=!<>(),]|[^\s=!<>(),]+)")
_MARKS: Final = frozenset({"==", "!=", "=", "!", "<", ">", "(", ")", ","})
_NAME: Final = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_PREFIX: Final = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_NUMBER: Final = re.compile(r"-?[0-9]{1,18}")
_OPERATORS: Final = {"=": "in", "==": "in", "!=": "notin", "in": "in", "notin": "notin", "<": "<", ">": ">"}


class InvalidSelector(ValueError):
    """The text is no selector; says why."""


@dataclass(frozen=True, slots=True)
class Term:
    """One requirement: `in`, `notin`, `exists`, `missing`, `<` or `>`."""

    key: str
    operator: str
    values: frozenset[str] = frozenset()
    bound: int = 0  # of < and >

    def left(self, endpoints: Iterable[Endpoint]) -> list[Endpoint]:
        """Endpoints whose labels meet it. One term after the other over all of them, in the fewest steps for each."""
        key, values, bound = self.key, self.values, self.bound
        match self.operator:
            case "in":
                return [one for one in endpoints if one.labels.get(key) in values]
            case "notin":  # met also if there is no such label
                return [one for one in endpoints if one.labels.get(key) not in values]
            case "exists":
                return [one for one in endpoints if key in one.labels]
            case "missing":
                return [one for one in endpoints if key not in one.labels]
        numbers = ((one, _number(one.labels.get(key, ""))) for one in endpoints)
        if self.operator == "<":
            return [one for one, number in numbers if number is not None and number < bound]
        return [one for one, number in numbers if number is not None and number > bound]


Selector = tuple[Term, ...]  # all must match; none: everything does


def selected(selector: Selector, endpoints: tuple[Endpoint, ...]) -> tuple[Endpoint, ...]:
    """The endpoints whose labels meet every requirement, in their order."""
    left: Sequence[Endpoint] = endpoints
    for term in selector:
        left = term.left(left)
    return tuple(left)


@lru_cache(maxsize=4096)  # labels of pods; nothing that a client sends
def _number(text: str) -> int | None:
    return int(text) if _NUMBER.fullmatch(text) else None


def parse_selector(text: str) -> Selector:
    """Read a selector. Raises InvalidSelector, and nothing else."""
    if len(text) > MAX_SELECTOR_CHARACTERS:
        raise InvalidSelector(f"over {MAX_SELECTOR_CHARACTERS} characters")
    tokens = _Tokens(text)
    terms: list[Term] = []
    while tokens.next or terms:
        terms.append(_term(tokens))
        if len(terms) > MAX_TERMS:
            raise InvalidSelector(f"over {MAX_TERMS} requirements")
        if not tokens.next:
            break
        tokens.expect(",")
    return tuple(terms)


class _Tokens:
    """The tokens of a selector, one ahead; empty at the end."""

    def __init__(self, text: str) -> None:
        self._found = self._split(text.strip())
        self.next = next(self._found, "")

    def _split(self, text: str) -> Iterator[str]:
        return (found[1] for found in _TOKEN.finditer(text))

    def take(self) -> str:
        taken, self.next = self.next, next(self._found, "")
        return taken

    def expect(self, mark: str) -> None:
        found = self.take()
        if found != mark:
            raise InvalidSelector(
                f"expected '{mark}' before {found[:64]!r}" if found else f"expected '{mark}' at the end"
            )


def _term(tokens: _Tokens) -> Term:
    if tokens.next == "!":
        tokens.take()
        return Term(_key(tokens.take()), "missing")
    key = _key(tokens.take())
    if tokens.next in ("", ","):
        return Term(key, "exists")
    sign = tokens.take()
    operator = _OPERATORS.get(sign)
    if operator is None:
        raise InvalidSelector(f"no operator: {sign[:64]!r}")
    if sign in ("in", "notin"):
        return Term(key, operator, _values(tokens))
    value = "" if tokens.next in ("", ",") else _value(tokens.take())
    if operator in ("<", ">") and not _NUMBER.fullmatch(value):
        raise InvalidSelector(f"{value!r} is no number")
    if operator in ("<", ">"):
        return Term(key, operator, bound=int(value))
    return Term(key, operator, frozenset({value}))


def _values(tokens: _Tokens) -> frozenset[str]:
    tokens.expect("(")
    values = []
    while True:
        values.append("" if tokens.next in (",", ")") else _value(tokens.take()))
        if tokens.next != ",":
            break
        tokens.take()
    tokens.expect(")")
    return frozenset(values)


def _key(text: str) -> str:
    prefix, slash, name = text.rpartition("/")
    if text in _MARKS or not name or not _NAME.fullmatch(name) or (slash and not _PREFIX.fullmatch(prefix)):
        raise InvalidSelector(f"{text[:64]!r} is no name of a label" if text else "the name of a label is missing")
    return text


def _value(text: str) -> str:
    if text in _MARKS or not _NAME.fullmatch(text):
        raise InvalidSelector(f"{text[:64]!r} is no value of a label")
    return text
