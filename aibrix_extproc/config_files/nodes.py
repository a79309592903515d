"""YAML as nodes that know their place, so that each error can name a line and a field.

Plain YAML loading would lose the lines, take the last of two equal keys, and turn `on` into a boolean.
"""

import gc
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, NoReturn, TypeVar

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from aibrix_extproc.config_files.depth import MAX_OWN_DEPTH, TooDeepError, refuse_depth
from aibrix_extproc.config_files.errors import SourceFormatError

_LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times faster; absent without libyaml

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Place:
    """A node of the document, with the name of the file and the path of fields that leads to it."""

    file: str
    path: str
    node: Node

    @property
    def line(self) -> int:
        """Counted from one, as editors do."""
        return int(self.node.start_mark.line) + 1

    @property
    def where(self) -> str:
        """File, line and field, for the head of a message."""
        return f"{self.file}, line {self.line}" + (f", {self.path}" if self.path else "")

    def fail(self, reason: str) -> NoReturn:
        """Refuse this node."""
        raise SourceFormatError(f"{self.where}: {reason}")

    def checked(self, read: Callable[[str], T]) -> T:
        """Read the text with a function that refuses without knowing the place."""
        text = self.text()
        try:
            return read(text)
        except SourceFormatError as error:
            raise SourceFormatError(f"{self.where}: {error}") from error

    def fields(self, known: Collection[str] | None = None) -> "dict[str, Place]":
        """A mapping's fields; with `known`, no others are allowed."""
        if not isinstance(self.node, MappingNode):
            self.fail(f"expected fields with values here, got {_kind(self.node)}")
        found: dict[str, Place] = {}
        for key_node, value in self.node.value:
            key = Place(self.file, self.path, key_node).text()
            place = Place(self.file, f"{self.path}.{key}" if self.path else key, value)
            if key in found:
                place.fail(f"given twice, first on line {found[key].line}; keep one")
            if known is not None and key not in known:
                place.fail(f"unknown field; known here: {', '.join(known)}")
            found[key] = place
        return found

    def items(self, limit: int) -> "list[Place]":
        """A list's items, at most `limit`."""
        if not isinstance(self.node, SequenceNode):
            self.fail(f"expected a list here, got {_kind(self.node)}")
        if len(self.node.value) > limit:
            self.fail(f"{len(self.node.value)} items are too many; at most {limit}")
        return [Place(self.file, f"{self.path}[{index}]", node) for index, node in enumerate(self.node.value)]

    def text(self) -> str:
        """A scalar as it is written: 1 and on are texts too, nothing at all is not."""
        if not isinstance(self.node, ScalarNode) or self.node.tag == "tag:yaml.org,2002:null":
            self.fail(f"expected a text here, got {_kind(self.node)}")
        text = str(self.node.value)
        if not text.strip():
            self.fail("is empty; give a value or leave the field out")
        return text

    def positive(self) -> int:
        """A whole number above zero."""
        text = self.text()
        if not (text.isascii() and text.isdigit() and len(text) <= 12 and int(text) > 0):
            self.fail(f"{text!r} is not a whole number above zero")
        return int(text)

    def boolean(self) -> bool:
        """True or false; yes, on and 1 are refused, because YAML's versions read them differently."""
        text = self.text()
        if text.lower() not in ("true", "false"):
            self.fail("write true or false")
        return text.lower() == "true"

    @property
    def is_text(self) -> bool:
        """Whether a single value stands here, as against fields or a list."""
        return isinstance(self.node, ScalarNode)


@contextmanager
def collector_paused() -> Iterator[None]:
    """For the reading of a document that may be large: its many nodes hold no cycles and soon go together.

    Collections in between find nothing and stop every thread; with them, 10,000 callers take about ten times as long.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:  # two readings at once: the one that began first turns it on
            gc.enable()


def compose(text: str, file: str) -> Place | None:
    """The root of the one document in `text`; None for an empty one."""
    try:
        refuse_depth(text, MAX_OWN_DEPTH)
        node = yaml.compose(text, Loader=_LOADER)
    except TooDeepError as error:
        raise SourceFormatError(f"{file}{_line(error.problem_mark)}: {error.problem}") from error
    except yaml.MarkedYAMLError as error:
        line = _line(error.problem_mark or error.context_mark)
        raise SourceFormatError(f"{file}{line}: not YAML: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise SourceFormatError(f"{file}: not YAML: {error}") from error
    if node is None or (isinstance(node, ScalarNode) and not str(node.value).strip()):
        return None
    return Place(file, "", node)


def _line(mark: Any) -> str:
    return f", line {mark.line + 1}" if mark else ""


def _kind(node: Node) -> str:
    if isinstance(node, MappingNode):
        return "fields"
    if isinstance(node, SequenceNode):
        return "a list"
    # The text itself is not quoted: it may be a key that slipped to the wrong place.
    return "nothing" if node.tag == "tag:yaml.org,2002:null" else "a text"
