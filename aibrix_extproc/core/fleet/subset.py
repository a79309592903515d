"""The endpoints that a gateway allows for one request, in the form of the endpoint picker protocol.

An entry is `ip:port`, or an IP alone, which means each of its ports; IPv6 stands in brackets before a port. Any
other text matches nothing, so a subset that cannot be read allows no endpoint instead of all.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address


@dataclass(frozen=True, slots=True)
class Subset:
    """Addresses with their port, and hosts of which every port will do."""

    addresses: frozenset[tuple[str, str]]
    hosts: frozenset[str]

    def has(self, address: str) -> bool:
        """Whether an endpoint's `ip:port` is allowed."""
        host, port = _split(address)
        return (host, port) in self.addresses or host in self.hosts


def subset_of(texts: Iterable[str]) -> Subset:
    """Each text may hold several entries, with commas between them."""
    entries = [_split(word) for text in texts for part in text.split(",") if (word := part.strip())]
    return Subset(
        addresses=frozenset(entry for entry in entries if entry[1]),
        hosts=frozenset(host for host, port in entries if not port),
    )


def _split(text: str) -> tuple[str, str]:
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        return _shortest(host), rest.removeprefix(":")
    if text.count(":") > 1:
        return _shortest(text), ""
    host, _, port = text.partition(":")
    return host, port


def _shortest(host: str) -> str:
    """The one form that RFC 5952 gives an IPv6 address."""
    try:
        return ip_address(host).compressed
    except ValueError:
        return host
