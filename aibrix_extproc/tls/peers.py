"""Which clients are accepted, of those that a trusted authority has certified."""

import ssl
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

_KINDS: Final = frozenset({"DNS", "URI", "IP Address", "email"})


def names_of(certificate: Mapping[str, Any]) -> tuple[str, ...]:
    """The alternative names of a certificate as `ssl` describes it; its common name if it has none of them."""
    found = tuple(str(name) for kind, name in certificate.get("subjectAltName", ()) if kind in _KINDS)
    return found or tuple(_common_names(certificate))


def _common_names(certificate: Mapping[str, Any]) -> Iterator[str]:
    for part in certificate.get("subject", ()):
        for kind, value in part:
            if kind == "commonName":
                yield str(value)


def allowed(names: Iterable[str], rules: tuple[str, ...]) -> bool:
    """Whether one of the names matches a rule. A rule that ends with `*` matches every name that begins like it.

    Without rules every client is accepted, even one without a name.
    """
    return not rules or any(_fits(name, rule) for name in names for rule in rules)


def _fits(name: str, rule: str) -> bool:
    return name.startswith(rule[:-1]) if rule.endswith("*") else name == rule


def refusal(tls: ssl.SSLObject, rules: tuple[str, ...], wall_now: float) -> str | None:
    """Why the client of a finished handshake is refused; None if it is accepted. `wall_now` is in Unix seconds."""
    certificate = tls.getpeercert()
    if not certificate:
        return "no client certificate"
    # The handshake has checked this, unless it resumed an earlier session.
    if ssl.cert_time_to_seconds(str(certificate["notAfter"])) < wall_now:
        return "the client's certificate is expired"
    if not allowed(names_of(certificate), rules):
        return "no name of the client's certificate is allowed"
    return None
