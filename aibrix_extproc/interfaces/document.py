"""openapi.json as pieces of JSON text, from which answers for one caller are joined without building the tree.

`docs/openapi.json` is the same file. Texts that were made are kept: at most KEPT documents, and the schemas of each
operation. To read the file takes 20 ms of CPU, the first text 10 to 20 ms: threads may do either.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from typing import Final

import msgspec

KEPT: Final = 16  # documents, each of about a megabyte
_REFERENCE: Final = re.compile(rb'"#/components/(\w+)/([\w.-]+)"')
_SCHEMAS: Final = b'"#/components/schemas/'
_DEFINITIONS: Final = b'"#/$defs/'

Component = tuple[str, str]
"""Kind and name, such as schemas and Error."""


@dataclass(frozen=True, slots=True)
class Text:
    """JSON with the hash of it, as an entity tag has it."""

    body: bytes
    tag: str


class Deprecation(msgspec.Struct, frozen=True):
    """A field of a request that has a successor."""

    field: str
    instead: str


class _Media(msgspec.Struct):
    schema: msgspec.Raw = msgspec.Raw(b"{}")
    event: msgspec.Raw = msgspec.field(default=msgspec.Raw(), name="x-aibrix-event")


class _Content(msgspec.Struct):
    content: dict[str, _Media] = {}


class _Parameter(msgspec.Struct):
    name: str = ""
    where: str = msgspec.field(default="", name="in")
    required: bool = False
    schema: msgspec.Raw = msgspec.Raw(b"{}")


class _Operation(msgspec.Struct):
    id: str = msgspec.field(name="operationId")
    tags: list[str]
    summary: str = ""
    request: _Content | None = msgspec.field(default=None, name="requestBody")
    parameters: list[_Parameter] = []
    responses: dict[str, msgspec.Raw] = {}
    deprecations: tuple[Deprecation, ...] = msgspec.field(default=(), name="x-aibrix-deprecations")


class _Head(msgspec.Struct):
    openapi: msgspec.Raw
    info: msgspec.Raw
    servers: msgspec.Raw
    security: msgspec.Raw
    tags: list[dict[str, str]]
    paths: dict[str, dict[str, msgspec.Raw]]
    components: dict[str, dict[str, msgspec.Raw]]


class Described:
    """One operation of the document."""

    def __init__(self, path: str, method: str, text: bytes) -> None:
        self.path = path
        self.method = method
        self.text = text
        self.parsed = msgspec.json.decode(text, type=_Operation)

    @property
    def input_media(self) -> str | None:
        """The type of the request's body."""
        content = self.parsed.request.content if self.parsed.request else {}
        return next(iter(content), None)

    @cached_property
    def schemas(self) -> Mapping[str, bytes]:
        """Its schemas by their names in an interface."""
        found: dict[str, bytes] = {}
        for media in self.parsed.request.content.values() if self.parsed.request else ():
            found["input_schema"] = bytes(media.schema)
        query = [one for one in self.parsed.parameters if one.where == "query"]
        if query:
            found["query_schema"] = _object({one.name: bytes(one.schema) for one in query})
        good = self.parsed.responses.get("200")
        answer = msgspec.json.decode(good, type=_Content) if good is not None else _Content()
        for kind, told in answer.content.items():
            if kind == "application/json":
                found["output_schema"] = bytes(told.schema)
            elif bytes(told.event):
                found["event_schema"] = bytes(told.event)
        return found


class Document:
    """All operations of openapi.json, and answers made of them."""

    def __init__(self, text: bytes) -> None:
        self._head = msgspec.json.decode(msgspec.json.format(text, indent=-1), type=_Head)
        operations = [
            Described(path, method, bytes(operation))
            for path, methods in self._head.paths.items()
            for method, operation in methods.items()
        ]
        self.operations: Mapping[str, Described] = {one.parsed.id: one for one in operations}
        self._components: dict[Component, bytes] = {
            (kind, name): bytes(value)
            for kind, named in self._head.components.items()
            for name, value in named.items()
        }  # fmt: skip
        self._references: dict[Component, tuple[Component, ...]] = {}
        self._documents: dict[frozenset[str], Text] = {}
        self._schemas: dict[str, bytes] = {}

    def cut(self, operations: frozenset[str]) -> Text:
        """The document with these operations alone."""
        found = self._documents.get(operations)
        if found is None:
            if len(self._documents) >= KEPT:
                del self._documents[next(iter(self._documents))]
            found = self._documents[operations] = text_of(self._joined(operations))
        return found

    def of_server(self, url: str) -> bytes:
        """The whole document, with another address of the gateway."""
        return self._joined(frozenset(self.operations), msgspec.json.encode([{"url": url}]))

    def schemas(self, operation: str) -> bytes:
        """Members of a JSON object, each a schema that stands alone; empty if the operation has none."""
        found = self._schemas.get(operation)
        if found is None:
            schemas = self.operations[operation].schemas
            members = {name: self._alone(schema) for name, schema in schemas.items()}
            found = self._schemas[operation] = _members(members)
        return found

    def _joined(self, operations: frozenset[str], servers: bytes | None = None) -> bytes:
        chosen = [one for one in self.operations.values() if one.parsed.id in operations]
        paths: dict[str, dict[str, bytes]] = {}
        for one in chosen:
            paths.setdefault(one.path, {})[one.method] = one.text
        used = {tag for one in chosen for tag in one.parsed.tags}
        components: dict[str, dict[str, bytes]] = {}
        for kind, name in self._reached(one.text for one in chosen):
            components.setdefault(kind, {})[name] = self._components[kind, name]
        components["securitySchemes"] = {
            name: value for (kind, name), value in self._components.items() if kind == "securitySchemes"
        }
        head = self._head
        return _object_of({
            "openapi": bytes(head.openapi),
            "info": bytes(head.info),
            "servers": servers or bytes(head.servers),
            "security": bytes(head.security),
            "tags": msgspec.json.encode([tag for tag in head.tags if tag["name"] in used]),
            "paths": _object_of({path: _object_of(methods) for path, methods in paths.items()}),
            "components": _object_of({kind: _object_of(named) for kind, named in components.items()}),
        })  # fmt: skip

    def _alone(self, schema: bytes) -> bytes:
        names = {name: self._components[kind, name] for kind, name in self._reached([schema]) if kind == "schemas"}
        if names:
            schema = b'%s,"$defs":%s}' % (schema[:-1], _object_of(names))
        return schema.replace(_SCHEMAS, _DEFINITIONS)

    def _reached(self, texts: Iterable[bytes]) -> Sequence[Component]:
        """The components that texts refer to, also by way of others, in one order."""
        found: set[Component] = set()
        waiting = [component for text in texts for component in _references(text)]
        while waiting:
            component = waiting.pop()
            if component not in found:
                found.add(component)
                known = self._references.get(component)
                if known is None:
                    known = self._references[component] = _references(self._components[component])
                waiting.extend(known)
        return sorted(found)


def read_document() -> Document:
    """The document that this version ships."""
    return Document((files(__package__) / "openapi.json").read_bytes())


def text_of(body: bytes) -> Text:
    """A text with its hash."""
    return Text(body, hashlib.blake2b(body, digest_size=16).hexdigest())


def _references(text: bytes) -> tuple[Component, ...]:
    return tuple({(kind.decode(), name.decode()) for kind, name in _REFERENCE.findall(text)})


def _object(properties: Mapping[str, bytes]) -> bytes:
    return b'{"type":"object","properties":%s}' % _object_of(properties)


def _object_of(values: Mapping[str, bytes]) -> bytes:
    return b"{%s}" % _members(values)


def _members(values: Mapping[str, bytes]) -> bytes:
    return b",".join(b"%s:%s" % (msgspec.json.encode(name), value) for name, value in values.items())
