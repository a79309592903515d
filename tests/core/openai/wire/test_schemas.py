"""Schemas and grammars that no text satisfies, as seen with xgrammar 0.2.8, which vLLM 0.33 uses."""

import json
import time
from typing import Any

import pytest

from aibrix_extproc.core.openai.wire.schemas import is_endless_grammar, is_endless_schema

SELF = {"$ref": "#"}
LOOP = {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}


def thing(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


ENDLESS_SCHEMAS = {
    "self": SELF,
    "beside a type": {"$ref": "#", "type": "string"},
    "with a slash": {"$ref": "#/"},
    "two definitions": {"$ref": "#/$defs/a", "$defs": LOOP},
    "old definitions": {"$ref": "#/definitions/a", "definitions": {"a": {"$ref": "#/definitions/a"}}},
    "in a property": {**thing(x={"$ref": "#/$defs/a"}), "$defs": LOOP},
    "in items": {"type": "array", "items": {"$ref": "#/$defs/a"}, "$defs": LOOP},
    "only branch": {"anyOf": [SELF]},
    "all branches": {"oneOf": [SELF, {"$ref": "#/$defs/a"}], "$defs": LOOP},
    "one of all": {"allOf": [SELF]},
    "escaped name": {"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"$ref": "#/$defs/a~1b"}}},
    "by index": {"anyOf": [{"$ref": "#/anyOf/0"}]},
}
GOOD_SCHEMAS = {
    "empty": {},
    "tree": thing(children={"type": "array", "items": SELF}),
    "list": thing(next={"anyOf": [SELF, {"type": "null"}]}),
    "never ends, but begins": thing(x=SELF),
    "array of itself": {"type": "array", "items": SELF},
    "one branch begins": {"anyOf": [SELF, {"type": "string"}]},
    "several of all": {"allOf": [SELF, {"type": "string"}]},
    "loop that nobody uses": {"type": "string", "$defs": LOOP},
    "missing definition": {"$ref": "#/$defs/nope"},
    "elsewhere": {"$ref": "http://example.org/schema"},
    "no text": {"$ref": 5},
    "data": {"enum": [SELF], "const": SELF, "default": SELF},
    "property of that name": {"type": "object", "properties": {"$ref": {"type": "string"}}},
    "no object": [1, "x", None],
    "false": False,
    "index that is too large": {"anyOf": [{"$ref": "#/anyOf/99999999999999999999"}]},
    "shared": thing(a={"$ref": "#/$defs/x"}, b={"$ref": "#/$defs/x"}) | {"$defs": {"x": {"type": "string"}}},
}
ENDLESS_GRAMMARS = {
    "self": "root ::= root",
    "mutual": "root ::= a\na ::= root",
    "left": 'root ::= root "x"',
    "group": "root ::= (root)",
    "group of groups": 'root ::= ((root) "x")',
    "behind nothing": 'root ::= e root "x"\ne ::= ""',
    "repeated": "root ::= root+",
    "later": 'root ::= "x" a\na ::= a',
    "comment": "# a comment\nroot ::= root # another",
}
GOOD_GRAMMARS = {
    "text": 'root ::= "x"',
    "left with another": 'root ::= root "x" | "y"',
    "right": 'root ::= "x" root',
    "optional": 'root ::= root? "x"',
    "star": "root ::= root*",
    "none or more": "root ::= root{0,3}",
    "nothing": 'root ::= ""',
    "class": "root ::= [a-z\\]]+ root | [0-9]",
    "quoted": 'root ::= "root ::= root"',
    "unused": 'root ::= "x"\na ::= a',
    "undefined": "root ::= a",
    "twice": 'root ::= root\nroot ::= "b"',
    "no root": "a ::= a",
    "lark": "start: start",
    "broken": "root ::= (root",
    "closed too often": "root ::= root)",
    "repeat of nothing": "root ::= * root",
    "empty": "",
}


@pytest.mark.parametrize("schema", ENDLESS_SCHEMAS.values(), ids=ENDLESS_SCHEMAS)
def test_schema_that_leads_only_to_itself_is_endless(schema: Any) -> None:
    assert is_endless_schema(schema)


@pytest.mark.parametrize("schema", GOOD_SCHEMAS.values(), ids=GOOD_SCHEMAS)
def test_schema_that_can_begin_or_that_the_engine_judges_passes(schema: Any) -> None:
    assert not is_endless_schema(schema)


@pytest.mark.parametrize("grammar", ENDLESS_GRAMMARS.values(), ids=ENDLESS_GRAMMARS)
def test_grammar_that_leads_only_to_itself_is_endless(grammar: str) -> None:
    assert is_endless_grammar(grammar)


@pytest.mark.parametrize("grammar", GOOD_GRAMMARS.values(), ids=GOOD_GRAMMARS)
def test_grammar_that_can_begin_or_that_the_engine_judges_passes(grammar: str) -> None:
    assert not is_endless_grammar(grammar)


def _chain(length: int) -> dict[str, Any]:
    names = [f"d{number}" for number in range(length)]
    following = [*names[1:], names[0]]
    return {"$ref": "#/$defs/d0", "$defs": {a: {"$ref": f"#/$defs/{b}"} for a, b in zip(names, following, strict=True)}}


SHAPES = {
    "chain of references": lambda size: is_endless_schema(_chain(size)),
    "references to one": lambda size: is_endless_schema({"anyOf": [{"$ref": "#"}] * size}),
    "many branches": lambda size: is_endless_schema({"anyOf": [{"anyOf": [{"$ref": "#"}]} for _ in range(size)]}),
    "deep path": lambda size: is_endless_schema({"$ref": "#" + "/a" * size}),
    "rules from last to first": lambda size: is_endless_grammar(
        "root ::= r0\n" + "\n".join(f"r{n} ::= r{n + 1}" for n in range(size)) + f'\nr{size} ::= "x"'
    ),
    "groups": lambda size: is_endless_grammar("root ::= " + "(" * size + "root" + ")" * size),
    "quotes": lambda size: is_endless_grammar("root ::= " + '"\\' * size),
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_work_grows_no_faster_than_the_text(shape: Any) -> None:
    def spent(size: int) -> float:
        """CPU seconds, the least of some tries."""
        tries = []
        for _ in range(5):
            started = time.process_time()
            shape(size)
            tries.append(time.process_time() - started)
        return min(tries)

    # Four times the size takes about four times as long; sixteen times would be quadratic.
    assert spent(2000) < 10 * max(spent(500), 0.0002)
    assert json.dumps(_chain(3))
