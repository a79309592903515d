"""The cluster's DNS, as a hosts file: each Service by its names, at the addresses of the ready pods behind it."""

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from tests.cluster.api import Admin, Tree

LOOK_SECONDS: Final = 0.2
SLICES: Final = "/apis/discovery.k8s.io/v1/endpointslices"


class Names:
    """The file at `place`, written again in its place, so that containers that have it mounted see what changes."""

    def __init__(self, admin: Admin, place: Path, fixed: Mapping[str, str]) -> None:
        self.place = place
        self._admin = admin
        self._fixed = [f"{address} {name}" for name, address in {"localhost": "127.0.0.1", **fixed}.items()]
        place.touch()
        self._write([])

    async def run(self) -> None:
        """Follow the Services until cancelled."""
        known: list[str] = []
        while True:
            found = [line for one in await self._admin.items(SLICES) for line in _lines(one)]
            if found != known:
                self._write(found)
                known = found
            await asyncio.sleep(LOOK_SECONDS)

    def _write(self, lines: list[str]) -> None:
        with self.place.open("r+b") as file:  # whoever reads meanwhile must not find it empty
            file.write("\n".join([*self._fixed, *lines, ""]).encode())
            file.truncate()


def _lines(one: Tree) -> Iterator[str]:
    service, namespace = (
        one["metadata"].get("labels", {}).get("kubernetes.io/service-name"),
        one["metadata"]["namespace"],
    )
    if service is None:
        return
    for endpoint in one["endpoints"] or ():
        if endpoint.get("conditions", {}).get("ready", True):
            for address in endpoint["addresses"]:
                yield f"{address} {service} {service}.{namespace} {service}.{namespace}.svc"
