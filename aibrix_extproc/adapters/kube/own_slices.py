"""Our EndpointSlices as the API server has them, by a watch and the answers to our writes; and how to change them."""

from collections.abc import Callable
from typing import Final

import msgspec

from aibrix_extproc.adapters.kube import watching
from aibrix_extproc.adapters.kube.api import KubeApi
from aibrix_extproc.adapters.kube.errors import KubeApiError, KubeUnreachable
from aibrix_extproc.adapters.kube.resources import SLICES, Feed
from aibrix_extproc.adapters.kube.watching import Happening
from aibrix_extproc.config_files.errors import SourceError
from aibrix_extproc.core.fleet.kubernetes.slices import Publication, WrittenSlice

WRITE_SECONDS: Final = 3.0  # less than is left of a lease when its holder gives up
SLICE_VERBS: Final = ("get", "list", "watch", "create", "update", "delete")


class _Named(msgspec.Struct, frozen=True):
    name: str = ""


class _Anything(msgspec.Struct, frozen=True):
    metadata: _Named = _Named()


class OwnSlices:
    """What stands, and how to change it. `changed` is called when others have changed something."""

    def __init__(self, api: KubeApi, publication: Publication, changed: Callable[[], None]) -> None:
        self._api = api
        self._publication = publication
        self._changed = changed
        self.standing: dict[str, WrittenSlice] = {}
        self.taken: set[str] = set()  # names that slices of somebody else have
        self.listed = False
        self.error = ""  # of the watch, for the operator
        self._seen: set[str] = set()  # by the listing that goes on

    @property
    def feed(self) -> Feed:
        """What is to be watched for `tell`."""
        labels = ",".join(f"{key}={value}" for key, value in self._publication.labels.items())
        return Feed(SLICES, self._publication.namespace, labels)

    @property
    def size(self) -> int:
        """How many endpoints they have."""
        return sum(len(one.endpoints or ()) for one in self.standing.values())

    def tell(self, happening: Happening) -> None:
        """What the watch has to say."""
        match happening:
            case watching.Begun():
                self._seen = set()
            case watching.Came(raw, listed):
                names = {self._came(one) for one in raw}
                self._seen |= names if listed else set()
            case watching.Went(raw):
                self._went(raw)
            case watching.Complete():
                self.standing = {name: one for name, one in self.standing.items() if name in self._seen}
                self.taken &= self._seen  # those without our labels are found out again, by a refused write
                self.listed = True
            case watching.Heard():
                self.error = ""
            case watching.Absent():
                self.error = f"{self.feed.title}: the API server does not have them"
            case watching.Lost(error, again):
                if again or isinstance(error, KubeApiError):  # a single lost connection is everyday life
                    self.error = self.described(error)
        self._changed()

    async def put(self, one: WrittenSlice) -> None:
        """Create a slice, or replace the version that was read. Raises SourceError; after a 409 call `look_again`."""
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
        self.standing.pop(one.metadata.name, None)

    async def look_again(self, name: str) -> None:
        """What stands under a name was not what we thought: it is gone, newer, or somebody else's."""
        self.standing.pop(name, None)
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

    def _came(self, raw: bytes) -> str:
        """Take in one object; its name."""
        try:
            one = _parsed(raw)
        except KubeUnreachable:
            # With our labels, but nothing that we could have written: it keeps its name, and we write beside it.
            name = _name_of(raw)
            self.standing.pop(name, None)
            self.taken.add(name)
            return name
        before = self.standing.get(one.metadata.name)
        if before is None or not _older(one, before):
            self._keep(one)
        return one.metadata.name

    def _went(self, raw: bytes) -> None:
        self.taken.discard(_name_of(raw))
        try:
            one = _parsed(raw)
        except KubeUnreachable:
            return
        before = self.standing.get(one.metadata.name)
        if before is not None and not _older(one, before):
            del self.standing[one.metadata.name]

    def _keep(self, one: WrittenSlice) -> None:
        self.taken.discard(one.metadata.name)
        self.standing[one.metadata.name] = one


def _name_of(raw: bytes) -> str:
    return msgspec.json.decode(raw, type=_Anything).metadata.name


def _older(one: WrittenSlice, other: WrittenSlice) -> bool:
    """Whether a watch tells of a version from before our last write; a version that is no number counts as news."""
    versions = one.metadata.resource_version, other.metadata.resource_version
    return all(version.isdecimal() for version in versions) and int(versions[0]) < int(versions[1])


def _parsed(raw: bytes) -> WrittenSlice:
    try:
        return msgspec.json.decode(raw, type=WrittenSlice)
    except (msgspec.DecodeError, RecursionError) as error:
        raise KubeUnreachable(f"an EndpointSlice of the API server cannot be read: {error}") from error
