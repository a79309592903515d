"""Finds schemas and grammars that no text can satisfy, before an engine sees them.

xgrammar compiles `{"$ref": "#"}` and `root ::= root`, and generation then fails at the first token with a 500. Both are
the same error: a rule that leads only to itself before any text can begin. Recursion behind an object, an array or
a literal is fine. Everything is linear in the size of what is looked at, and what is larger than a bound is left to the
engine.
"""

import re
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

import msgspec

# Of all members of a request together. A walk costs up to a microsecond a byte, where the rest of a body costs 3 ns, so
# what is unusually dense is left to the engine, too. Schemas have an object in 30 bytes, grammars a token in 8.
MAX_SCHEMA_BYTES: Final = 4096
MAX_NODES: Final = 128  # objects of a schema
MAX_TOKENS: Final = 384  # of a grammar
_DATA: Final = frozenset({"enum", "const", "default", "examples"})  # whose values are no schemas
_DEFINITIONS: Final = frozenset({"$defs", "definitions"})  # which count only if something refers to them
_ROUNDS: Final = 8  # over a grammar; each settles at least one more rule, nearly always all of them

_TOKEN: Final = re.compile(
    r"""(?P<space>\s++|\#[^\n]*)|(?P<rule>[\w.-]++)\s*+::=|(?P<name>[\w.-]++)"""
    r"""|(?P<text>"(?:[^"\\\n]|\\.)*+")|(?P<chars>\[(?:[^\]\\\n]|\\.)*+\])"""
    r"""|(?P<repeat>[*+?]|\{\d*,?\d*\})|(?P<mark>[()|])"""
)


def is_endless_schema(schema: Any) -> bool:
    """Whether a part of a JSON schema refers only to itself: no text could ever begin there."""
    reached = list(islice(_reached(schema), MAX_NODES + 1))
    if len(reached) > MAX_NODES:
        return False
    numbers = {id(node): number for number, node in enumerate(reached)}
    leads_here: list[list[int]] = [[] for _ in reached]
    begun: list[int] = []
    for number, node in enumerate(reached):
        nexts = _nexts(node, schema)
        if nexts is None:
            begun.append(number)
        else:
            for one in nexts:
                leads_here[numbers[id(one)]].append(number)
    can_begin = set(begun)
    while begun:
        for number in leads_here[begun.pop()]:
            if number not in can_begin:
                can_begin.add(number)
                begun.append(number)
    return len(can_begin) < len(reached)


def _reached(root: Any) -> Iterator[dict[str, Any]]:
    """Every object that the schema has or refers to, once."""
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if isinstance(node, list):
            waiting += node
            continue
        if not isinstance(node, dict) or id(node) in seen:
            continue
        seen.add(id(node))
        yield node
        waiting += (child for name, child in node.items() if name not in _DATA and name not in _DEFINITIONS)
        target = _target(node, root)
        if target is not None:
            waiting.append(target)


def _nexts(node: dict[str, Any], root: Any) -> list[dict[str, Any]] | None:
    """The schemas one of which must begin for this one to begin; None if it begins with text of its own."""
    target = _target(node, root)
    if target is not None:
        return [target]
    for name in ("anyOf", "oneOf", "allOf"):
        branches = node.get(name)
        if isinstance(branches, list) and branches and (name != "allOf" or len(branches) == 1):
            return branches if all(isinstance(one, dict) for one in branches) else None
    return None


def _target(node: dict[str, Any], root: Any) -> dict[str, Any] | None:
    """What a schema refers to within its document; None for everything else, which the engine judges."""
    reference = node.get("$ref")
    if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
        return None
    found = root
    for part in reference[2:].split("/") if len(reference) > len("#/") else ():
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(found, dict):
            found = found.get(name)
        elif isinstance(found, list) and name.isdecimal() and len(name) < 8 and int(name) < len(found):
            found = found[int(name)]
        else:
            return None
    return found if isinstance(found, dict) else None


def read_schema(raw: bytes) -> Any:
    """A JSON text as values, None if it cannot be read; not called for more than the bound."""
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


_Element = tuple[str, bool]  # a rule's name, or empty for text; whether it may be left out
_Rules = dict[str, list[list[_Element]]]


def is_endless_grammar(text: str) -> bool:
    """Whether a rule of a grammar (GBNF, as xgrammar and llama.cpp have it) can never begin. False if in doubt."""
    rules = _parsed(text)
    if rules is None or "root" not in rules:
        return False
    begin: set[str] = set()
    empty: set[str] = set()
    for _ in range(_ROUNDS):
        before = len(begin), len(empty)
        for name, alternatives in rules.items():
            for one in alternatives:
                _settle(name, one, begin, empty)
        if (len(begin), len(empty)) == before:
            return any(name not in begin and name not in empty for name in _used(rules))
    return False


def _settle(name: str, elements: list[_Element], begin: set[str], empty: set[str]) -> None:
    for element, optional in elements:
        if not element or element in begin:
            begin.add(name)
        if not (optional or element in empty):
            return
    empty.add(name)


def _used(rules: _Rules) -> set[str]:
    used, waiting = {"root"}, ["root"]
    while waiting:
        for alternative in rules[waiting.pop()]:
            for element, _ in alternative:
                if element in rules and element not in used:
                    used.add(element)
                    waiting.append(element)
    return used


def _parsed(text: str) -> _Rules | None:
    """Rules by name; a group becomes a rule of its own. None for what is no such grammar."""
    parser = _Parser()
    at = 0
    for _ in range(MAX_TOKENS):
        found = _TOKEN.match(text, at)
        if found is None or not parser.take(found):
            return None
        at = found.end()
        if at == len(text):
            return parser.finished()
    return None


class _Parser:
    def __init__(self) -> None:
        self._rules: _Rules = {}
        self._open: list[str] = []  # the rule, and the groups within it

    def take(self, found: re.Match[str]) -> bool:
        """One token; false if it fits nowhere."""
        kind, token = found.lastgroup, found[0]
        if kind == "space":
            return True
        if kind == "rule":
            return len(self._open) <= 1 and self._begin(found["rule"])
        if not self._open:
            return False
        if kind == "mark":
            return self._mark(token)
        here = self._rules[self._open[-1]][-1]
        if kind == "repeat":
            return self._repeat(here, token)
        # An empty text is nothing at all.
        here.append((token, False) if kind == "name" else ("", token == '""'))
        if kind == "text" and token == '""':
            here.pop()
        return True

    def finished(self) -> _Rules | None:
        """All rules, if none is open in its middle and each name is known."""
        known = all(
            not element or element in self._rules
            for alternatives in self._rules.values()
            for one in alternatives
            for element, _ in one
        )
        return self._rules if len(self._open) == 1 and known else None

    def _begin(self, name: str) -> bool:
        if name in self._rules:
            return False
        self._open = [name]
        self._rules[name] = [[]]
        return True

    def _mark(self, token: str) -> bool:
        if token == "|":
            self._rules[self._open[-1]].append([])
        elif token == "(":
            group = f"({len(self._rules)}"  # no rule can be called that
            self._rules[self._open[-1]][-1].append((group, False))
            self._rules[group] = [[]]
            self._open.append(group)
        elif len(self._open) > 1:
            self._open.pop()
        else:
            return False
        return True

    def _repeat(self, here: list[_Element], token: str) -> bool:
        if not here:
            return False
        if token in "*?" or token.startswith(("{0", "{,")):
            here[-1] = (here[-1][0], True)
        return True
