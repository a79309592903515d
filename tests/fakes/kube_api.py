"""A small Kubernetes API over real HTTP: lists with pages, watches with bookmarks, writes, and the faults that happen.

Objects have resource versions from one counter, as with etcd; a watch resumes at a version, selects by labels and by
metadata.name, sends DELETED when an object stops matching, and answers 410 below `compacted`. A write of a version that
is no longer the newest is a 409. Everything that is not scripted behaves as an API server does; `tests/adapters/kube`
runs the same tests on a real one.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml
from aiohttp import web

from tests.ports import free_port

Tree = dict[str, Any]

BUILT_IN = {
    "pods": ("v1", "PodList"),
    "services": ("v1", "ServiceList"),
    "endpointslices": ("discovery.k8s.io/v1", "EndpointSliceList"),
    "secrets": ("v1", "SecretList"),
    "leases": ("coordination.k8s.io/v1", "LeaseList"),
}
VERBS = {"GET": "get", "POST": "create", "PUT": "update", "DELETE": "delete"}
CUSTOM = {
    "modeladapters": ("model.aibrix.ai/v1alpha1", "ModelAdapterList"),
    "inferencepools": ("inference.networking.k8s.io/v1", "InferencePoolList"),
}


@dataclass(slots=True)
class _Happening:
    """One change: the object before it and after it; None: not there."""

    version: int
    plural: str
    before: Tree | None
    after: Tree | None


class KubeApiDouble:
    """`put` and `delete` change objects; the other public attributes are what a test scripts or reads."""

    def __init__(self) -> None:
        self.port = free_port()  # its own, also while it is stopped
        self.installed = {*BUILT_IN, *CUSTOM}
        self.denied: set[str] = set()  # "pods" or "watch pods": 403
        self.refused: dict[str, int] = {}  # "create endpointslices": with which status
        self.late_writes: set[str] = set()  # "update leases": done, but never answered
        self.token: str | None = None  # the only bearer token that is accepted
        self.failing: int | None = None  # a status that every request gets
        self.compacted = 0  # versions below are gone
        self.asked: Counter[str] = Counter()  # "list pods", "watch pods"
        self.queries: list[tuple[str, Mapping[str, str]]] = []
        self.largest_page = 0
        self.hang_ups = 0  # so many watches are closed as soon as they begin
        self.expire_pages = 0  # so many pages after a first one are refused with 410
        self.garble = 0  # so many events are cut in the middle
        self.watchers = 0
        self._objects: dict[tuple[str, str, str], Tree] = {}
        self._history: list[_Happening] = []
        self._version = 100
        self._grown = asyncio.Event()
        self._generation = 0
        self._silent = False
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen; after a stop on the same port again, with the same objects."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.01, handler_cancellation=True)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Close the listener and every connection."""
        self.hang_up()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    @property
    def version(self) -> int:
        """The newest version."""
        return self._version

    def kubeconfig(self, folder: Path, *, namespace: str = "llm", token: str = "") -> Path:
        """A file that leads here."""
        path = folder / "kubeconfig"
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": namespace}}],
            "clusters": [{"name": "test", "cluster": {"server": f"http://127.0.0.1:{self.port}"}}],
            "users": [{"name": "test", "user": {"token": token} if token else {}}],
        }
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        return path

    async def put(self, one: Tree) -> None:
        """Create or change an object, as `kubectl apply` would, status included."""
        self._change(_plural(one), one["metadata"]["namespace"], one["metadata"]["name"], one)

    async def delete(self, one: Tree) -> None:
        """Remove an object at once."""
        self._change(_plural(one), one["metadata"]["namespace"], one["metadata"]["name"], None)

    def objects(self, plural: str, namespace: str) -> list[Tree]:
        """What there is of a kind, in order of names."""
        return [one for key, one in sorted(self._objects.items()) if key[:2] == (plural, namespace)]

    def bookmark(self) -> None:
        """Send one to every watch, with a version that no object has."""
        self._version += 1
        self._history.append(_Happening(self._version, "", None, None))
        self._wake()

    def compact(self) -> None:
        """Forget every version up to now."""
        self.compacted = self._version + 1
        self._version += 1

    def hang_up(self) -> None:
        """End every running watch."""
        self._generation += 1
        self._wake()

    def fall_silent(self, *, silent: bool = True) -> None:
        """Running and new watches say nothing any more, as if the network had swallowed them."""
        self._silent = silent
        self._wake()

    def _change(self, plural: str, namespace: str, name: str, after: Tree | None) -> None:
        key = (plural, namespace, name)
        before = self._objects.get(key)
        if before is None and after is None:
            return
        self._version += 1
        if after is None:
            del self._objects[key]
        else:
            metadata = after["metadata"] | {"resourceVersion": str(self._version)}
            after = self._objects[key] = after | {"metadata": metadata}
        self._history.append(_Happening(self._version, plural, before, after))
        self._wake()

    def _wake(self) -> None:
        self._grown.set()
        self._grown = asyncio.Event()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        plural, namespace, name = _target(request.path)
        of_status = bool(name) and request.path.endswith("/status")
        asked_for = f"{plural}/status" if of_status else plural
        verb = VERBS[request.method]
        if request.method == "GET" and not name:
            verb = "watch" if request.query.get("watch") in ("1", "true") else "list"
        self.asked[f"{verb} {asked_for}"] += 1
        self.queries.append((f"{verb} {asked_for}", request.query))
        if self.failing is not None:
            return _status(self.failing, "scripted", headers={"retry-after": "0"})
        if self.token is not None and request.headers.get("authorization") != f"Bearer {self.token}":
            return _status(401, "Unauthorized")
        if plural not in self.installed:
            return web.Response(status=404, text="404 page not found\n")
        if {plural, f"{verb} {asked_for}"} & self.denied:
            return _status(403, f'{plural} is forbidden: User "test" cannot {verb} resource "{plural}"')
        if f"{verb} {asked_for}" in self.refused:
            return _status(self.refused[f"{verb} {asked_for}"], "scripted")
        if verb == "watch":
            return await self._watch(request, plural, namespace)
        if verb == "list":
            return self._list(request, plural, namespace)
        given = await request.json() if request.can_read_body else {}
        if of_status:  # a write of the status changes nothing else
            given = self._objects.get((plural, namespace, name), {}) | {
                key: given[key] for key in ("metadata", "status") if key in given
            }
        answer = self._one(verb, (plural, namespace, name), given)
        if f"{verb} {plural}" in self.late_writes:
            await asyncio.Event().wait()
        return answer

    def _one(self, verb: str, key: tuple[str, str, str], given: Tree) -> web.Response:
        """Read or write one object by its version."""
        plural, namespace, name = key
        name = name or given["metadata"]["name"]
        before = self._objects.get((plural, namespace, name))
        if before is None and verb != "create":
            return _status(404, f'{plural} "{name}" not found')
        if before is not None and verb == "create":
            return _status(409, f'{plural} "{name}" already exists')
        conditions = given.get("preconditions") if verb == "delete" else given.get("metadata")
        version = (conditions or {}).get("resourceVersion", "")
        if before is not None and version not in ("", before["metadata"]["resourceVersion"]):
            return _status(409, f'{plural} "{name}": the object has been modified')
        if verb == "delete":
            self._change(plural, namespace, name, None)
            return web.json_response({"kind": "Status", "apiVersion": "v1", "status": "Success"})
        if verb == "get":
            return web.json_response(before)
        kept = {"uid": f"uid-{self._version}"} if before is None else {"uid": before["metadata"].get("uid")}
        self._change(plural, namespace, name, given | {"metadata": given["metadata"] | kept | {"namespace": namespace}})
        return web.json_response(self._objects[plural, namespace, name], status=201 if before is None else 200)

    def _list(self, request: web.Request, plural: str, namespace: str) -> web.Response:
        limit = int(request.query.get("limit", "0"))
        after, version = "", self._version
        if "continue" in request.query:
            # By the last name, not by a number: what was deleted since must not hide what follows.
            told, _, after = request.query["continue"].partition(" ")
            version = int(told)
            self.expire_pages -= 1
            if version < self.compacted or self.expire_pages >= 0:
                return _status(410, "The provided continue parameter is too old")
        found = [
            ("/".join(key), one)
            for key, one in sorted(self._objects.items())
            if "/".join(key) > after and _fits(one, key[0], plural, namespace, request)
        ]
        found.sort(key=lambda one: one[0])
        page = [one for _, one in (found[:limit] if limit else found)]
        self.largest_page = max(self.largest_page, len(page))
        metadata = {"resourceVersion": str(version)}
        if limit and limit < len(found):
            metadata["continue"] = f"{version} {found[limit - 1][0]}"
        api_version, kind = (BUILT_IN | CUSTOM)[plural]
        # As the real one: objects in a list have no kind of their own.
        items = [{name: value for name, value in one.items() if name not in ("apiVersion", "kind")} for one in page]
        return web.json_response({"apiVersion": api_version, "kind": kind, "metadata": metadata, "items": items})

    async def _watch(self, request: web.Request, plural: str, namespace: str) -> web.StreamResponse:
        since = int(request.query["resourceVersion"])
        response = web.StreamResponse(headers={"content-type": "application/json"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        if self.hang_ups > 0:
            self.hang_ups -= 1
            return response
        if since < self.compacted:
            gone = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}
            await response.write(_line("ERROR", gone))
            return response
        self.watchers += 1
        try:
            await self._follow(response, request, since)
        finally:
            self.watchers -= 1
        return response

    async def _follow(self, response: web.StreamResponse, request: web.Request, since: int) -> None:
        plural, namespace, _ = _target(request.path)
        generation = self._generation
        while generation == self._generation:
            grown = self._grown
            for happening in [one for one in self._history if one.version > since] if not self._silent else ():
                since = happening.version
                for line in _lines(happening, plural, namespace, request):
                    if self.garble > 0:
                        self.garble -= 1
                        await response.write(line[: len(line) // 2] + b"\n")
                        return
                    await response.write(line)
            await grown.wait()


def _lines(happening: _Happening, plural: str, namespace: str, request: web.Request) -> Iterator[bytes]:
    if not happening.plural:
        yield _line("BOOKMARK", {"kind": "X", "metadata": {"resourceVersion": str(happening.version)}})
        return
    before = happening.before is not None and _fits(happening.before, happening.plural, plural, namespace, request)
    after = happening.after is not None and _fits(happening.after, happening.plural, plural, namespace, request)
    if after:
        yield _line("MODIFIED" if before else "ADDED", happening.after or {})
    elif before:
        last = happening.after or happening.before or {}
        metadata = last["metadata"] | {"resourceVersion": str(happening.version)}
        yield _line("DELETED", last | {"metadata": metadata})


def _line(kind: str, one: Tree) -> bytes:
    return json.dumps({"type": kind, "object": one}).encode() + b"\n"


def _fits(one: Tree, its: str, plural: str, namespace: str, request: web.Request) -> bool:
    if its != plural or namespace not in ("", one["metadata"]["namespace"]):
        return False
    name = request.query.get("fieldSelector", "").removeprefix("metadata.name=")
    if name and name != one["metadata"]["name"]:
        return False
    labels = one["metadata"].get("labels") or {}
    for term in filter(None, request.query.get("labelSelector", "").split(",")):
        key, equals, value = term.partition("=")
        if key.endswith("!"):
            if labels.get(key[:-1]) == value:
                return False
        elif key not in labels or (equals and labels[key] != value):
            return False
    return True


def _target(path: str) -> tuple[str, str, str]:
    """The plural, the namespace ("": all) and the name ("": the collection) that are asked for."""
    parts = path.strip("/").split("/")
    if "namespaces" not in parts:
        return parts[-1], "", ""
    namespace, plural, *name = parts[parts.index("namespaces") + 1 :]
    return plural, namespace, "".join(name[:1])


def _plural(one: Tree) -> str:
    return str(one["kind"]).lower() + "s"


def _status(code: int, message: str, headers: Mapping[str, str] | None = None) -> web.Response:
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": message}
    return web.json_response(body, status=code, headers=headers)
