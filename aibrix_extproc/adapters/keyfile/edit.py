"""Edits of the key file's text that leave everything else as it was: comments, order, quotes, indentation.

Lists with an item a line are edited, which is how docs/keys.md and `keys` write them: whole lines are put in or taken
out. For any other form (lists in brackets, JSON) the operator gets the lines to put in by hand. The result is read
again; if it does not say exactly what was meant, nothing is written.
"""

from collections.abc import Sequence
from dataclasses import replace

from yaml.nodes import CollectionNode, MappingNode, Node, SequenceNode

from aibrix_extproc.adapters.keyfile.lines import caller_lines, key_lines
from aibrix_extproc.adapters.keyfile.parse import parse_keys
from aibrix_extproc.config_files.errors import SourceError, SourceFormatError, SourceLookupError
from aibrix_extproc.config_files.nodes import Place, compose
from aibrix_extproc.core.access.holders import IssuedKey, KeyHolder
from aibrix_extproc.core.placing import Caller


class EditedByHandError(SourceFormatError):
    """The file is in a form that is not edited here; the text says what to do by hand."""


def with_key(text: str, file: str, caller: Caller, key: IssuedKey) -> str:
    """The text with one more key; the caller is added too if there is none of its name.

    Raises EditedByHandError with the lines to add where the file's form is not edited here.
    """
    before = parse_keys(text, file)
    known = next((index for index, holder in enumerate(before) if holder.caller.name == caller.name), None)
    root = _root(text, file)
    if known is None:
        after: tuple[KeyHolder, ...] = (*before, KeyHolder(caller, (key,)))
        parent, field, lines, place = root, "callers", caller_lines(caller, key), "callers"
    else:
        holder = before[known]
        after = _put(before, known, replace(holder, keys=(*holder.keys, key)))
        parent, field, lines = root.fields()["callers"].items(len(before))[known], "keys", key_lines(key)
        place = f"the keys of {caller.name}"
    edited = _inserted(text, parent.node, parent.fields()[field].node, lines)
    return _checked(edited, file, after, f"add this to {place} by hand:\n" + "\n".join(lines))


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


def _checked(edited: str | None, file: str, expected: tuple[KeyHolder, ...], todo: str) -> str:
    try:
        good = edited is not None and parse_keys(edited, file) == expected
    except SourceError:
        good = False
    if edited is None or not good:
        raise EditedByHandError(f"{file} is written in a way that cannot be edited safely; nothing was changed, {todo}")
    return edited


def _inserted(text: str, parent: Node, sequence: Node, added: Sequence[str]) -> str | None:
    """The text with lines behind the last item of a list; None for a list in brackets, unless it is empty."""
    assert isinstance(sequence, SequenceNode)
    if not sequence.flow_style:
        return _with_lines(text, _last_line(sequence), sequence.start_mark.column, added)
    if sequence.value or (isinstance(parent, MappingNode) and parent.flow_style):
        return None
    opened = text[: sequence.start_mark.index].rstrip(" ") + text[sequence.end_mark.index :]
    return _with_lines(opened, sequence.end_mark.line, parent.start_mark.column, added)


def _with_lines(text: str, after_line: int, column: int, added: Sequence[str]) -> str:
    lines = text.split("\n")
    ending = "\r" if lines[0].endswith("\r") else ""
    if after_line == len(lines) - 1:  # the last line has no end yet
        lines[-1] += ending
        lines.append("")
    lines[after_line + 1 : after_line + 1] = [" " * column + line + ending for line in added]
    return "\n".join(lines)


def _removed(text: str, entry: Node, number: int) -> str | None:
    """The text without the lines of a key; None for a list in brackets."""
    field, sequence = next((name, value) for name, value in entry.value if name.value == "keys")
    if sequence.flow_style:
        return None
    item = sequence.value[number]
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
