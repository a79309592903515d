"""Objects that are changed or deleted for a while, as somebody with kubectl would, and put back."""

import copy
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from tests.cluster.api import Admin, Tree
from tests.cluster.conftest import NAMESPACE

ENVOY_GATEWAY: Final = f"/apis/gateway.envoyproxy.io/v1alpha1/namespaces/{NAMESPACE}"
CORE: Final = f"/api/v1/namespaces/{NAMESPACE}"
RBAC: Final = "/apis/rbac.authorization.k8s.io/v1"


@asynccontextmanager
async def changed(admin: Admin, path: str, change: Callable[[Tree], object]) -> AsyncIterator[None]:
    """An object with a change of it, until the end of the block."""
    before = await admin.ask("GET", path)
    bent = copy.deepcopy(before)
    change(bent)
    await admin.ask("PUT", path, bent)
    try:
        yield
    finally:
        now = await admin.ask("GET", path)
        before["metadata"]["resourceVersion"] = now["metadata"]["resourceVersion"]
        await admin.ask("PUT", path, before)


@asynccontextmanager
async def deleted(admin: Admin, path: str) -> AsyncIterator[None]:
    """No such object, until the end of the block."""
    before = await admin.ask("GET", path)
    await admin.ask("DELETE", path)
    try:
        yield
    finally:
        for field in ("resourceVersion", "uid"):
            before["metadata"].pop(field)
        before.pop("status", None)
        await admin.ask("POST", path.rpartition("/")[0], before)


@asynccontextmanager
async def added(admin: Admin, collection: str, one: Tree) -> AsyncIterator[None]:
    """One object more, until the end of the block."""
    await admin.ask("POST", collection, one)
    try:
        yield
    finally:
        await admin.ask("DELETE", f"{collection}/{one['metadata']['name']}")
