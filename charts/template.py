"""A tree of variants as the text of a Helm template.

Text of the manifests is data: braces in it are escaped. What comes from values is put in by `Places`.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from charts.variants import Part, Variants, items, members

Path = tuple[str, ...]
NAMESPACE: Final = "aibrix-extproc-system"
RELEASE: Final = "{{ .Release.Namespace }}"
_BRACES: Final = "{{ `{{` }}"
_MARK: Final = "\0"


@dataclass(frozen=True, slots=True)
class Places:
    """Where values come in, by path inside of one object: in a scalar's place, a tree's, or at the end of a node."""

    scalars: Mapping[Path, str] = field(default_factory=dict)
    trees: Mapping[Path, str] = field(default_factory=dict)  # an expression that is a mapping or a list
    additions: Mapping[Path, Sequence[str]] = field(default_factory=dict)  # lines; INDENT is replaced by the node's
    texts: Mapping[str, str] = field(default_factory=dict)  # scalars by what they are, wherever they stand


@dataclass(frozen=True, slots=True)
class Writer:
    """Writes one object."""

    places: Places
    conditions: Mapping[str, str]  # of a variant's name

    def document(self, base: Mapping[str, Any], variants: Variants) -> list[str]:
        """The lines of an object."""
        return self._mapping(base, variants, (), 0)

    def when(self, names: Iterable[str]) -> str:
        """The condition that one of the variants is on."""
        found = [self.conditions[name] for name in names]
        return found[0] if len(found) == 1 else "or " + " ".join(f"({one})" for one in found)

    def _mapping(self, base: Mapping[str, Any], variants: Variants, path: Path, indent: int) -> list[str]:
        lines: list[str] = []
        for part in _steady_first(members(base, variants)):
            head = f"{' ' * indent}{_scalar(part.key)}:"
            lines += self._guarded(part, self._valued(part, (*path, part.key), indent, head))
        return lines + self._added(path, indent)

    def _list(self, base: Sequence[Any], variants: Variants, path: Path, indent: int) -> list[str]:
        lines: list[str] = []
        for number, part in enumerate(items(base, variants)):
            step = (*path, part.key or str(number))
            lines += self._guarded(part, self._valued(part, step, indent, f"{' ' * indent}-"))
        return lines + self._added(path, indent)

    def _guarded(self, part: Part, lines: list[str]) -> list[str]:
        if part.only:
            return [f"{{{{- if {self.when(part.only)} }}}}", *lines, "{{- end }}"]
        if part.unless:
            return [f"{{{{- if not ({self.when(part.unless)}) }}}}", *lines, "{{- end }}"]
        return lines

    def _valued(self, part: Part, path: Path, indent: int, head: str) -> list[str]:
        if path in self.places.trees:
            return [head, f"{{{{- toYaml {self.places.trees[path]} | nindent {indent + 2} }}}}"]
        for kind, write in ((dict, self._mapping), (list, self._list)):
            some = part.base or part.variants
            if some and all(isinstance(one, kind) for one in (part.base, *part.variants.values())):
                return _joined(head, write(part.base, part.variants, path, indent + 2))
        if not part.variants:
            return self._leaf(part.base, path, indent, head)
        lines: list[str] = []
        for number, (name, value) in enumerate(part.variants.items()):
            lines += [f"{{{{- {'else ' if number else ''}if {self.when([name])} }}}}"]
            lines += self._valued(Part(part.key, value), path, indent, head)
        return [*lines, "{{- else }}", *self._leaf(part.base, path, indent, head), "{{- end }}"]

    def _leaf(self, value: Any, path: Path, indent: int, head: str) -> list[str]:
        if isinstance(value, (dict, list)) and value:
            return self._valued(Part("", value), path, indent, head)
        if path in self.places.scalars:
            return [f"{head} {self.places.scalars[path]}"]
        if isinstance(value, str) and value in self.places.texts:
            return [f"{head} {self.places.texts[value]}"]
        if isinstance(value, str) and "\n" in value:
            keep = "" if value.endswith("\n") and not value.endswith("\n\n") else "+" if value.endswith("\n") else "-"
            body = [f"{' ' * (indent + 2)}{line}" if line else "" for line in escaped(value).split("\n")]
            return [f"{head} |2{keep}", *(body[:-1] if value.endswith("\n") else body)]
        return [f"{head} {_scalar(value)}"]

    def _added(self, path: Path, indent: int) -> list[str]:
        return [line.replace("INDENT", str(indent)) for line in self.places.additions.get(path, ())]


def escaped(text: str) -> str:
    """Text of the manifests inside of a template, in the namespace of the release."""
    return text.replace("{{", _MARK).replace(NAMESPACE, RELEASE).replace(_MARK, _BRACES)


def _scalar(value: Any) -> str:
    if not isinstance(value, str):
        return json.dumps(value)
    plain = value.replace("-", "").replace("_", "").replace("/", "").replace(".", "")
    is_word = plain.isascii() and plain.isalpha() and value[0].isalpha() and value[-1].isalnum()
    if is_word and value.lower() not in ("true", "false", "null", "yes", "no", "on", "off", "y", "n"):
        return escaped(value)
    return escaped(json.dumps(value, ensure_ascii=False))


def _steady_first(parts: Iterable[Part]) -> list[Part]:
    """A part that is always there comes first, so that a list's item begins with it."""
    return sorted(parts, key=lambda part: bool(part.only or part.unless or part.variants))


def _joined(head: str, lines: list[str]) -> list[str]:
    """A node below its key; an item's first line goes on the line of its dash."""
    if head.endswith("-") and lines and not lines[0].startswith("{{-"):
        return [f"{head} {lines[0].lstrip()}", *lines[1:]]
    return [head, *lines]
