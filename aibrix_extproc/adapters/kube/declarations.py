"""The ModelAdapters of the watched namespaces as the API server has them, and how to write their status."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from aibrix_extproc.adapters.kube import watching
from aibrix_extproc.adapters.kube.access import find_access
from aibrix_extproc.adapters.kube.api import KubeApi
from aibrix_extproc.adapters.kube.errors import KubeApiError
from aibrix_extproc.adapters.kube.resources import ADAPTERS, Feed, is_older, watched_namespaces
from aibrix_extproc.adapters.kube.watching import Watch, WatchEvent, WatchPace
from aibrix_extproc.config_files.errors import SourceError
from aibrix_extproc.core.operations.declared import Declaration
from aibrix_extproc.settings import KubernetesSettings

logger = logging.getLogger(__name__)

STATUS_SECONDS: Final = 3.0  # of one write
MOVED_ON: Final = frozenset({404, 409})  # the watch brings what has happened


@dataclass(slots=True)
class _FeedState:
    listed: bool = False
    error: str = ""


class Declarations:
    """Raises KubeConfigError if there is no way to reach the cluster. `changed` is called after each change."""

    def __init__(
        self, settings: KubernetesSettings, changed: Callable[[], None], *, pace: WatchPace | None = None
    ) -> None:
        access = find_access(settings.kubeconfig, settings.context)
        self._api = KubeApi(access)
        self._changed = changed
        self._pace = pace or WatchPace(page_size=settings.page_size, silence_seconds=settings.silence_seconds)
        namespaces = watched_namespaces(settings.namespaces, access.namespace)
        self._feeds = {Feed(ADAPTERS, namespace): _FeedState() for namespace in namespaces}
        self._raw: dict[str, bytes] = {}
        self._seen: dict[Feed, set[str]] = {}  # in the listing that is under way
        self.objects: dict[str, Declaration] = {}  # by subject

    @property
    def listed(self) -> bool:
        """Whether every namespace was read; before that, what is not there may still come."""
        return all(state.listed for state in self._feeds.values())

    @property
    def error(self) -> str:
        """The errors of the watches, for the operator."""
        return "; ".join(dict.fromkeys(state.error for state in self._feeds.values() if state.error))

    async def run(self) -> None:
        """Watch until cancelled."""
        async with self._api, asyncio.TaskGroup() as group:
            for feed in self._feeds:
                group.create_task(Watch(self._api, feed, self._taking(feed), self._pace).run())

    async def write_status(self, subject: str, status: dict[str, Any]) -> Declaration | None:
        """Replace the status of the version that was read: what the server made of it.

        None: there is a newer version, which the watch brings.

        Raises SourceError.
        """
        one, body = self.objects[subject], msgspec.json.decode(self._raw[subject])
        path = f"{ADAPTERS.item(one.metadata.namespace, one.metadata.name)}/status"
        # Objects of a list come without the names of their kind.
        named = {"apiVersion": f"{ADAPTERS.group}/{ADAPTERS.version}", "kind": ADAPTERS.name}
        try:
            written = await self._api.write("PUT", path, body | named | {"status": status}, seconds=STATUS_SECONDS)
        except KubeApiError as error:
            if error.status in MOVED_ON:
                return None
            if error.status == 403:
                rule = ADAPTERS.rule(one.metadata.namespace, ("update",)).replace(
                    "modeladapters", "modeladapters/status"
                )
                raise KubeApiError(403, f"the status of ModelAdapters: not allowed; {rule} ({error})") from error
            raise
        if subject in self.objects:  # else it was deleted meanwhile
            self._put(written)
        return self.objects.get(subject)

    def _taking(self, feed: Feed) -> Callable[[WatchEvent], None]:
        def on_event(event: WatchEvent) -> None:
            self._take(feed, self._feeds[feed], event)
            self._changed()

        return on_event

    def _take(self, feed: Feed, state: _FeedState, event: WatchEvent) -> None:
        match event:
            case watching.ListBegun():
                self._seen[feed] = set()
            case watching.Put(raw, listed):
                subjects = {self._put(one) for one in raw}
                if listed:
                    self._seen[feed] |= subjects
            case watching.Deleted(raw):
                self._deleted(raw)
            case watching.ListComplete():
                self._keep_listed(feed)
                state.listed = True
            case watching.Alive():
                state.error = ""
            case watching.NotInstalled():
                state.error = f"{feed.title}: the API server does not have them"
            case watching.Failed(error, again):
                state.error = _described(feed, error, again=again) or state.error

    def _put(self, raw: bytes) -> str:
        """Take in one object, unless a newer version is known; returns its subject, empty if that cannot be read."""
        one = _parsed(raw)
        if one is None:
            return ""
        before = self.objects.get(one.subject)
        if before is None or not is_older(one.metadata.resource_version, before.metadata.resource_version):
            self.objects[one.subject], self._raw[one.subject] = one, raw
        return one.subject

    def _deleted(self, raw: bytes) -> None:
        one = _parsed(raw)
        if one is not None:
            self._drop(one.subject)

    def _keep_listed(self, feed: Feed) -> None:
        for subject, one in list(self.objects.items()):
            if feed.namespace in (None, one.metadata.namespace) and subject not in self._seen[feed]:
                self._drop(subject)

    def _drop(self, subject: str) -> None:
        self.objects.pop(subject, None)
        self._raw.pop(subject, None)


def _parsed(raw: bytes) -> Declaration | None:
    try:
        return msgspec.json.decode(raw, type=Declaration)
    except (msgspec.DecodeError, RecursionError) as error:
        logger.warning("a ModelAdapter of the API server cannot be read", extra={"error": str(error)[:300]})
        return None


def _described(feed: Feed, error: SourceError, *, again: bool) -> str:
    """An error in the words of an operator; empty for a single lost connection, which is normal."""
    if isinstance(error, KubeApiError) and error.status == 403:
        return f"{feed.title}: not allowed; {ADAPTERS.rule(feed.namespace)} ({error})"
    return f"{feed.title}: {error}" if again or isinstance(error, KubeApiError) else ""
