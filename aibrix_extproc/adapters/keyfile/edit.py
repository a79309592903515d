"""Edits of the key file's text that leave everything else as it was: comments, order, quotes, indentation.

A YAML library would write the whole file anew. Here lines are put in and taken out where the parser says that items
begin and end, and the result is read again: if it does not say exactly what was meant, nothing is written.
"""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from yaml.nodes import CollectionNode, MappingNode, Node, SequenceNode

from aibrix_extproc.adapters.keyfile.parse import HASH_PREFIX, parse_keys
from aibrix_extproc.config_files.errors import SourceError, SourceFormatError, SourceLookupError
from aibrix_extproc.config_files.nodes import Place, compose
from aibrix_extproc.core.access.holders import IssuedKey, KeyHolder
from aibrix_extproc.core.placing import Caller

NEW_FILE: Final = """\
# Who may call. Only hashes of keys stand here; `aibrix-extproc keys new` makes a key and adds its hash.
callers: []
"""
_PLAIN: Final = re.compile(r"(?!(?:null|true|false|yes|no|on|off|y|n)\Z)[A-Za-z][A-Za-z0-9_.-]*", re.IGNORECASE)

Pairs = Sequence[tuple[str, str]]  # field and its value, written as YAML


def with_key(text: str, file: str, caller: Caller, key: IssuedKey) -> str:
    """The text with one more key; the caller is added too if there is none of its name."""
    before = parse_keys(text, file)
    known = next((index for index, holder in enumerate(before) if holder.caller.name == caller.name), None)
    root = _root(text, file)
    callers = root.fields()["callers"]
    if known is None:
        after: tuple[KeyHolder, ...] = (*before, KeyHolder(caller, (key,)))
        edited = _inserted(text, root.node, callers.node, _caller_block(caller, key), _caller_flow(caller, key))
    else:
        entry = callers.items(len(before))[known]
        holder = before[known]
        after = _put(before, known, replace(holder, keys=(*holder.keys, key)))
        edited = _inserted(text, entry.node, entry.fields()["keys"].node, _block(_pairs(key)), _flow(_pairs(key)))
    lines = "\n".join(_block(_pairs(key)))
    return _checked(edited, file, after, f"add this to the keys of {caller.name} by hand:\n{lines}")


def without_key(text: str, file: str, key_id: str) -> str:
    """The text without the key of this id; a SourceLookupError if there is none."""
    before = parse_keys(text, file)
    for index, holder in enumerate(before):
        for number, key in enumerate(holder.keys):
            if key.id == key_id:
                entry = _root(text, file).fields()["callers"].items(len(before))[index]
                edited = _removed(text, entry.node, number)
                after = _put(before, index, replace(holder, keys=tuple(one for one in holder.keys if one != key)))
                return _checked(edited, file, after, f"remove the key {key_id} of {holder.caller.name} by hand")
    raise SourceLookupError(f"{file}: there is no key with the id {key_id}; see `aibrix-extproc keys list`")


def _root(text: str, file: str) -> Place:
    root = compose(text, file)
    assert root is not None, "it was parsed before"
    return root


def _put(holders: tuple[KeyHolder, ...], index: int, holder: KeyHolder) -> tuple[KeyHolder, ...]:
    return (*holders[:index], holder, *holders[index + 1 :])


def _checked(edited: str, file: str, expected: tuple[KeyHolder, ...], todo: str) -> str:
    try:
        good = parse_keys(edited, file) == expected
    except SourceError:
        good = False
    if not good:
        raise SourceFormatError(f"{file} is written in a way that cannot be edited safely; nothing was changed, {todo}")
    return edited


# --- where


def _inserted(text: str, parent: Node, sequence: Node, block: Sequence[str], flow: str) -> str:
    assert isinstance(sequence, SequenceNode)
    assert isinstance(parent, MappingNode)
    items = sequence.value
    if not sequence.flow_style:
        return _lines_put(text, _last_line(sequence), sequence.start_mark.column, block)
    start, end = sequence.start_mark.index, sequence.end_mark.index
    if items or parent.flow_style:
        inside = text[start + 1 : end - 1].rstrip()
        comma = ", " if inside and not inside.endswith(",") else ""
        return f"{text[: start + 1]}{inside}{comma}{flow}{text[end - 1 :]}"
    # An empty list in brackets becomes lines of its own below its field.
    opened = text[:start].rstrip(" ") + text[end:]
    return _lines_put(opened, sequence.end_mark.line, parent.start_mark.column, block)


def _lines_put(text: str, after_line: int, column: int, block: Sequence[str]) -> str:
    lines = text.split("\n")
    ending = "\r" if lines[0].endswith("\r") else ""
    if after_line == len(lines) - 1:  # the last line has no end yet
        lines[-1] += ending
        lines.append("")
    lines[after_line + 1 : after_line + 1] = [" " * column + line + ending for line in block]
    return "\n".join(lines)


def _removed(text: str, entry: Node, number: int) -> str:
    field, sequence = next((name, value) for name, value in entry.value if name.value == "keys")
    item = sequence.value[number]
    if sequence.flow_style:
        before, rest = text[: item.start_mark.index], text[item.end_mark.index :]
        if rest.lstrip().startswith(","):
            return before + rest.lstrip()[1:].lstrip()
        return before.rstrip().removesuffix(",") + rest
    lines = text.split("\n")
    first = item.start_mark.line
    while not lines[first].lstrip().startswith("-"):  # the dash stands on a line of its own
        first -= 1
    del lines[first : _last_line(item) + 1]
    if len(sequence.value) == 1:
        head, colon, rest = lines[field.end_mark.line].partition(":")
        lines[field.end_mark.line] = f"{head}{colon} []{rest}"
    return "\n".join(lines)


def _last_line(node: Node) -> int:
    """The last line with something of the node on it; a block's own end lies behind the comments that follow."""
    if isinstance(node, CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _last_line(last[1] if isinstance(node, MappingNode) else last)
    mark = node.end_mark
    return int(mark.line) - (1 if mark.column == 0 and mark.line > node.start_mark.line else 0)


# --- what


def _pairs(key: IssuedKey) -> Pairs:
    found = [("hash", f"{HASH_PREFIX}{key.digest.hex()}"), ("id", _scalar(key.id)), ("created", key.created)]
    if key.wall_expires_at is not None:
        found.append(("expires", datetime.fromtimestamp(key.wall_expires_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")))
    if key.note:
        found.append(("note", _scalar(key.note)))
    return found


def _permissions(caller: Caller) -> Pairs:
    found = []
    if caller.models is not None:
        found.append(("models", _list(caller.models)))
    if caller.operations is not None:
        found.append(("operations", _list(sorted(caller.operations))))
    found += [(name, "true") for name in ("admin", "engine_controls") if getattr(caller, name)]
    return found


def _caller_block(caller: Caller, key: IssuedKey) -> list[str]:
    lines = [f"- name: {_scalar(caller.name)}", "  keys:", *(f"  {line}" for line in _block(_pairs(key)))]
    return lines + [f"  {name}: {value}" for name, value in _permissions(caller)]


def _caller_flow(caller: Caller, key: IssuedKey) -> str:
    pairs = [("name", _scalar(caller.name)), ("keys", f"[{_flow(_pairs(key))}]"), *_permissions(caller)]
    return _flow(pairs)


def _block(pairs: Pairs) -> list[str]:
    return [f"{'  ' if number else '- '}{name}: {value}" for number, (name, value) in enumerate(pairs)]


def _flow(pairs: Pairs) -> str:
    # Inside brackets a colon may end a text, so what has one is quoted.
    bare = ("[", '"')
    return "{" + ", ".join(f"{k}: {json.dumps(v) if ':' in v and v[0] not in bare else v}" for k, v in pairs) + "}"


def _list(values: Iterable[str]) -> str:
    return "[" + ", ".join(json.dumps(value, ensure_ascii=False) for value in values) + "]"


def _scalar(text: str) -> str:
    return text if _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)
