"""Describes the gateway's interface to each caller: what its key may do."""

import asyncio
import platform
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import msgspec

from aibrix_extproc import __version__
from aibrix_extproc.core.exchange.asks import Describe, Described, Refused
from aibrix_extproc.core.exchange.policy import ExchangePolicy
from aibrix_extproc.core.fleet.model import Snapshot
from aibrix_extproc.core.interfaces import (
    Allowance,
    engine_versions,
    interface,
    matches,
    usable_models,
    usable_operations,
)
from aibrix_extproc.core.openai.contract.errors import Problem
from aibrix_extproc.core.openai.contract.operation_rows import OPERATIONS
from aibrix_extproc.core.openai.contract.operations import Action, Local, ModelIn, Operation, shown
from aibrix_extproc.core.placing import Caller
from aibrix_extproc.interfaces.document import Document, Text, read_document, text_of

_TYPE: Final = ("content-type", "application/json")
_CACHE: Final = ("cache-control", "private, no-cache")  # the same URL gives each caller another answer


class Limits(Protocol):
    """Limits of callers by name."""

    def allowed(self, caller: Caller, model: str = "", *, soft: bool = False) -> dict[str, float]:
        """Those of a caller; with a model those that hold for it beside all others."""
        ...


class _NoLimits:
    def allowed(self, _: Caller, __: str = "", *, soft: bool = False) -> dict[str, float]:
        return {}


class Interfaces:
    """Answers from the shipped document, the fleet of the moment, and the limits of the caller."""

    def __init__(
        self, snapshot: Callable[[], Snapshot], limits: Limits | None = None, policy: ExchangePolicy | None = None
    ) -> None:
        self._snapshot = snapshot
        self._limits = limits or _NoLimits()
        self._policy = policy or ExchangePolicy()
        self._document: Document | None = None

    def describe(self, ask: Describe) -> Described | Refused | Awaitable[Described | Refused]:
        """The answer to one of the operations about interfaces. Large texts are made in a thread, and kept."""
        if ask.operation.local is Local.VERSION:
            return described(ask, text_of(msgspec.json.encode(self._version())))
        return self._prepared(ask)

    async def _prepared(self, ask: Describe) -> Described | Refused:
        document = self._document
        if document is None:
            document = self._document = await asyncio.to_thread(read_document)
        rows = usable_operations(OPERATIONS, ask.caller, metadata=self._policy.metadata)
        if ask.operation.local is Local.OPENAPI:
            return described(ask, await asyncio.to_thread(document.cut, frozenset(row.id for row in rows)))
        if ask.operation.local is Local.LIST_INTERFACES:
            return described(ask, await self._listed(document, rows, ask.caller))
        wanted = ask.parameters["interface_id"]
        row = next((row for row in rows if row.id == wanted), None)
        if row is None:
            return Refused(Problem("interface_not_found", {"interface": shown(wanted)}))
        schemas = await asyncio.to_thread(document.schemas, row.id)
        head = msgspec.json.encode(self._interface(document, row, self._allowance(ask.caller)))
        return described(ask, text_of(b"%s,%s}" % (head[:-1], schemas) if schemas else head))

    async def _listed(self, document: Document, rows: tuple[Operation, ...], caller: Caller) -> Text:
        allowance, found = self._allowance(caller), []
        for row in rows:
            found.append(msgspec.json.encode(self._interface(document, row, allowance)))
            await asyncio.sleep(0)  # a large fleet takes a millisecond for each
        return text_of(b'{"object":"list","data":[%s]}' % b",".join(found))

    def _allowance(self, caller: Caller) -> Allowance:
        models = usable_models(self._snapshot(), caller, lambda model: self._limits.allowed(caller, model))
        return Allowance(models, self._limits.allowed(caller), self._limits.allowed(caller, soft=True))

    def _interface(self, document: Document, row: Operation, allowance: Allowance) -> dict[str, object]:
        told = document.operations[row.id]
        found = interface(row, told.parsed.summary, allowance, self._max_bytes(row))
        return {**found, "input_media": told.input_media, "deprecations": told.parsed.deprecations}

    def _max_bytes(self, row: Operation) -> int | None:
        if row.action not in (Action.ROUTE, Action.STICKY):
            return None
        form = row.model_in is ModelIn.FORM
        return min(self._policy.max_audio_bytes, self._policy.max_body_bytes) if form else self._policy.max_body_bytes

    def _version(self) -> dict[str, object]:
        engines = engine_versions(self._snapshot().endpoints)
        return {
            "object": "gateway.version",
            "version": __version__,
            "python": platform.python_version(),
            "engines": [
                {"engine": engine, "version": version or None, "endpoints": count}
                for (engine, version), count in engines.items()
            ],
        }


def described(ask: Describe, text: Text) -> Described:
    """The text, or that it is the one that the client has."""
    tag = ("etag", f'"{text.tag}"')
    if matches(text.tag, ask.if_none_match):
        return Described(304, (tag, _CACHE), b"")
    return Described(200, (_TYPE, tag, _CACHE), text.body)
