"""Requests to the API server, as the cluster's admin."""

from typing import Any

import aiohttp

from tests.adapters.kube.apiserver import ADMIN, ApiServer

Tree = dict[str, Any]


class Admin:
    """Whoever may do everything."""

    def __init__(self, server: ApiServer, session: aiohttp.ClientSession) -> None:
        self._server = server
        self._session = session

    async def ask(self, method: str, path: str, body: Tree | None = None, *, allowed: tuple[int, ...] = ()) -> Tree:
        """One request; errors that are not allowed for fail the test."""
        headers = {"authorization": f"Bearer {ADMIN}"}
        if method == "PATCH":
            headers["content-type"] = "application/strategic-merge-patch+json"
        url = f"{self._server.url}{path}"
        async with self._session.request(method, url, json=body, headers=headers, ssl=False) as response:
            answer: Tree = await response.json(content_type=None)
            assert response.status < 400 or response.status in allowed, f"{method} {path}: {answer}"
            return answer

    async def items(self, path: str) -> list[Tree]:
        """What a list has."""
        found: list[Tree] = (await self.ask("GET", path))["items"]
        return found
