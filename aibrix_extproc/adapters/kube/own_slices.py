"""Our EndpointSlices as the API server has them, by a watch and the answers to our writes; and how to change them."""

from collections.abc import Callable
from typing import Final

import msgspec

from aibrix_extproc.adapters.kube import watching
from aibrix_extproc.adapters.kube.api import KubeApi
from aibrix_extproc.adapters.kube.errors import KubeApiError, KubeUnreachable
from aibrix_extproc.adapters.kube.resources import SLICES, Feed, is_older
from aibrix_extproc.adapters.kube.watching import WatchEvent
from aibrix_extproc.config_files.errors import SourceError
from aibrix_extproc.core.fleet.kubernetes.slices import Publication, WrittenSlice

WRITE_SECONDS: Final = 3.0  # less than is left of a lease when its holder gives up
SLICE_VERBS: Final = ("get", "list", "watch", "create", "update", "delete")


class _Named(msgspec.Struct, frozen=True):
    name: str = ""


class _Anything(msgspec.Struct, frozen=True):
    metadata: _Named = _Named()


class OwnSlices:
    """The slices as they are now, and how to change them. `changed` is called when others have changed something."""

    def __init__(self, api: KubeApi, publication: Publication, changed: Callable[[], None]) -> None:
        self._api = api
        self._publication = publication
        self._changed = changed
        self.current: dict[str, WrittenSlice] = {}
        self.taken: set[str] = set()  # names of slices that are not ours
        self.listed = False
        self.error = ""  # of the watch, for the operator
        self._seen: set[str] = set()  # in the listing that is under way

    @property
    def feed(self) -> Feed:
        """The collection to watch for `on_event`."""
        labels = ",".join(f"{key}={value}" for key, value in self._publication.labels.items())
        return Feed(SLICES, self._publication.namespace, labels)

    @property
    def size(self) -> int:
        """The number of their endpoints."""
        return sum(len(one.endpoints or ()) for one in self.current.values())

    def on_event(self, event: WatchEvent) -> None:
        """Take in an event of the watch."""
        match event:
            case watching.ListBegun():
                self._seen = set()
            case watching.Put(raw, listed):
                names = {self._put(one) for one in raw}
                self._seen |= names if listed else set()
            case watching.Deleted(raw):
                self._deleted(raw)
            case watching.ListComplete():
                self.current = {name: one for name, one in self.current.items() if name in self._seen}
                self.taken &= self._seen  # a refused write finds those without our labels again
                self.listed = True
            case watching.Alive():
                self.error = ""
            case watching.NotInstalled():
                self.error = f"{self.feed.title}: the API server does not have them"
            case watching.Failed(error, again):
                if again or isinstance(error, KubeApiError):  # a single lost connection is normal
                    self.error = self.described(error)
        self._changed()

    async def put(self, one: WrittenSlice) -> None:
        """Create a slice, or replace the version that was read. Raises SourceError; after a 409 call `reread`."""
        namespace, name = self._publication.namespace, one.metadata.name
        new = not one.metadata.resource_version
        method, path = ("POST", SLICES.path(namespace)) if new else ("PUT", SLICES.item(namespace, name))
        self._keep(_parsed(await self._api.write(method, path, msgspec.to_builtins(one), seconds=WRITE_SECONDS)))

    async def delete(self, one: WrittenSlice) -> None:
        """Delete the version that was read; one that is gone is fine."""
        path = SLICES.item(self._publication.namespace, one.metadata.name)
        body = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {"resourceVersion": one.metadata.resource_version},
        }
        try:
            await self._api.write("DELETE", path, body, seconds=WRITE_SECONDS)
        except KubeApiError as error:
            if error.status != 404:
                raise
        self.current.pop(one.metadata.name, None)

    async def reread(self, name: str) -> None:
        """Read the slice of a name again: it is gone, newer, or not ours."""
        self.current.pop(name, None)
        try:
            found = _parsed(
                await self._api.get(SLICES.item(self._publication.namespace, name), {}, seconds=WRITE_SECONDS)
            )
        except KubeApiError as error:
            if error.status != 404:
                raise
            return
        labels = found.metadata.labels or {}
        if all(labels.get(key) == value for key, value in self._publication.labels.items()):
            self._keep(found)
        else:
            self.taken.add(name)

    def described(self, error: SourceError) -> str:
        """An error in the words of an operator."""
        if isinstance(error, KubeApiError) and error.status == 403:
            return f"{self.feed.title}: not allowed; {SLICES.rule(self._publication.namespace, SLICE_VERBS)} ({error})"
        if isinstance(error, KubeApiError):
            return f"{self.feed.title}: the API server answered {error.status}: {error}"
        return str(error)

    def _put(self, raw: bytes) -> str:
        """Take in one object; returns its name."""
        try:
            one = _parsed(raw)
        except KubeUnreachable:
            # It has our labels, but we cannot have written it: it keeps its name, and we use others.
            name = _name_of(raw)
            self.current.pop(name, None)
            self.taken.add(name)
            return name
        before = self.current.get(one.metadata.name)
        if before is None or not is_older(_version(one), _version(before)):
            self._keep(one)
        return one.metadata.name

    def _deleted(self, raw: bytes) -> None:
        self.taken.discard(_name_of(raw))
        try:
            one = _parsed(raw)
        except KubeUnreachable:
            return
        before = self.current.get(one.metadata.name)
        if before is not None and not is_older(_version(one), _version(before)):
            del self.current[one.metadata.name]

    def _keep(self, one: WrittenSlice) -> None:
        self.taken.discard(one.metadata.name)
        self.current[one.metadata.name] = one


def _name_of(raw: bytes) -> str:
    return msgspec.json.decode(raw, type=_Anything).metadata.name


def _version(one: WrittenSlice) -> str:
    return one.metadata.resource_version


def _parsed(raw: bytes) -> WrittenSlice:
    try:
        return msgspec.json.decode(raw, type=WrittenSlice)
    except (msgspec.DecodeError, RecursionError) as error:
        raise KubeUnreachable(f"an EndpointSlice of the API server cannot be read: {error}") from error
