"""Entries to endpoints: host names become addresses and key files keys."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

from aibrix_extproc.adapters.fleetfile.entry import Entry, HostPort
from aibrix_extproc.adapters.fleetfile.parse import parse_key
from aibrix_extproc.config_files.errors import SourceFormatError, SourceLookupError
from aibrix_extproc.config_files.file import read_bytes
from aibrix_extproc.core.fleet.model import Endpoint

MAX_KEY_FILE_BYTES: Final = 4096


Resolve = Callable[[str], Awaitable[str | None]]  # a host name to one IP address, None where there is none


async def look_up(entries: Sequence[Entry], directory: Path, resolve: Resolve) -> tuple[Endpoint, ...]:
    """Endpoints whose identity is their address; key files are relative to `directory`."""
    names = sorted({entry.at.host for entry in entries if entry.at.is_name})
    resolved = dict(zip(names, await asyncio.gather(*map(resolve, names)), strict=True))
    seen: dict[str, str] = {}
    endpoints = []
    for entry in entries:
        host = resolved.get(entry.at.host, entry.at.host) if entry.at.is_name else entry.at.host
        if host is None:
            raise SourceLookupError(
                f"{entry.where}: the host name {entry.at.host} cannot be resolved; write its IP address or check DNS"
            )
        address = str(HostPort(host, entry.at.port))
        if address in seen:
            raise SourceFormatError(f"{entry.where}: the address {address} is given already at {seen[address]}")
        seen[address] = entry.where
        key = entry.api_key if entry.api_key_file is None else await asyncio.to_thread(_read_key, entry, directory)
        endpoints.append(_endpoint(entry, address, key))
    return tuple(endpoints)


def key_files(entries: Sequence[Entry], directory: Path) -> tuple[Path, ...]:
    """The key files that the entries name, each once."""
    return tuple(sorted({directory / entry.api_key_file for entry in entries if entry.api_key_file}))


def _endpoint(entry: Entry, address: str, key: str | None) -> Endpoint:
    return Endpoint(
        identity=address,
        address=address,
        name=entry.name or (str(entry.at) if entry.at.is_name else ""),
        engine=entry.engine,
        labels=entry.labels,
        annotations=entry.annotations,
        config=entry.config,
        models=entry.models,
        role=entry.role,
        role_set=entry.role_set,
        selects=bool(entry.models),
        api_key=key,
    )


async def resolve_host(name: str) -> str | None:
    """The first address of a name, IPv4 before IPv6: engines that bind to 0.0.0.0 do not listen on the other."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return None
    addresses = sorted((family != socket.AF_INET, str(address[0])) for family, _, _, _, address in found)
    return addresses[0][1] if addresses else None


def _read_key(entry: Entry, directory: Path) -> str:
    path = directory / str(entry.api_key_file)
    what = f"{entry.where}, api_key_file: {path}"
    content = read_bytes(path, MAX_KEY_FILE_BYTES, what=what, too_large="that is no key")
    return parse_key(content.decode("utf-8", "replace"), entry.where)
