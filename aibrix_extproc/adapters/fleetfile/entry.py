"""One endpoint as it was written, before its host name and its key file are looked up."""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from aibrix_extproc.config_files.errors import SourceFormatError
from aibrix_extproc.core.fleet.model import ServedModel
from aibrix_extproc.core.fleet.modelconfig import ModelConfig
from aibrix_extproc.core.fleet.roles import EngineRole

_HOST_NAME: Final = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?\.?")
_EXAMPLE: Final = "write it as 10.0.0.7:8000 or http://engine-1:8000"


@dataclass(frozen=True, slots=True)
class HostPort:
    """The address and port of an engine; `host` is an address in canonical form, or a name."""

    host: str
    port: int
    is_name: bool = False

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Entry:
    """One endpoint as written. `where` says where, for messages about it."""

    where: str
    at: HostPort
    name: str = ""
    engine: str = "vllm"
    labels: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    annotations: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    config: ModelConfig | None = None  # what one of them says
    models: tuple[ServedModel, ...] = ()
    role: EngineRole = EngineRole.BOTH
    role_set: str = ""
    api_key: str | None = field(default=None, repr=False)
    api_key_file: str | None = None


def parse_address(text: str) -> HostPort:
    """Read `host:port` or `http://host:port`; the error says what is wrong with it."""
    scheme, separator, rest = text.strip().rpartition("://")
    if separator and scheme.lower() == "https":
        raise SourceFormatError(
            "https is not supported, engines are reached over plain HTTP; "
            "write http://host:port and end TLS in front of the engine"
        )
    if separator and scheme.lower() != "http":
        raise SourceFormatError(f"unknown scheme {scheme!r}; {_EXAMPLE}")
    rest = rest[:-1] if rest.endswith("/") and separator else rest
    if "@" in rest:  # not quoted: what stands before it is a password
        raise SourceFormatError("user names and passwords do not belong in an address; set api_key instead")
    if "/" in rest or "?" in rest or "#" in rest:
        raise SourceFormatError(f"{text!r} has a path; leave out everything after the port")
    host, colon, port = rest.rpartition(":")
    if not colon or not host or rest.endswith("]"):
        raise SourceFormatError(f"{text!r} has no port; {_EXAMPLE}")
    return _host_port(host, _port(port), text)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= 65535):
        raise SourceFormatError(f"{text!r} is not a port; it is a number from 1 to 65535")
    return int(text)


def _host_port(host: str, port: int, text: str) -> HostPort:
    bracketed = host.startswith("[") and host.endswith("]")
    try:
        address = ipaddress.ip_address(host[1:-1] if bracketed else host)
    except ValueError:
        # A last label of digits only is no name: getaddrinfo would take 010.1 or 10.1.2 for some address.
        if bracketed or not _HOST_NAME.fullmatch(host) or host.rstrip(".").rpartition(".")[2].isdigit():
            raise SourceFormatError(f"{text!r} is neither an address nor a host name; {_EXAMPLE}") from None
        return HostPort(host.lower(), port, is_name=True)
    if (address.version == 6) != bracketed:
        raise SourceFormatError(f"{text!r}: an IPv6 address stands in brackets, and only that: [::1]:8000")
    if address.is_unspecified:
        raise SourceFormatError(f"{text!r} is an address to listen on, not one to reach; write 127.0.0.1 for this host")
    if address.is_multicast or "%" in str(address):
        raise SourceFormatError(f"{text!r} is not the address of one engine that every process here can reach")
    return HostPort(str(address), port)
