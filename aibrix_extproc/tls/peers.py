"""Which of the clients that a trusted authority has certified are let in."""

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
    """Whether one of the names fits a rule: equal, or with the same beginning where the rule ends with `*`.

    Without rules every name is good, also none.
    """
    return not rules or any(_fits(name, rule) for name in names for rule in rules)


def _fits(name: str, rule: str) -> bool:
    return name.startswith(rule[:-1]) if rule.endswith("*") else name == rule


def refusal(tls: ssl.SSLObject, rules: tuple[str, ...], wall_now: float) -> str | None:
    """Why the client at the other end of a connection is not let in; None if it is."""
    certificate = tls.getpeercert()
    if not certificate:
        return "no client certificate"
    # The handshake has checked it, unless it resumed a session of before.
    if ssl.cert_time_to_seconds(str(certificate["notAfter"])) < wall_now:
        return "the client's certificate is expired"
    if not allowed(names_of(certificate), rules):
        return "no name of the client's certificate is allowed"
    return None
