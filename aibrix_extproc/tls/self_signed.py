"""Makes a certificate at start, in memory. It gives encryption without authentication, as gateways want of pickers.

Keys are P-256: making one takes a millisecond, an RSA key of 4096 bits takes seconds.
"""

import contextlib
import ipaddress
import socket
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from aibrix_extproc.tls.credentials import KeyPair

LIFE: Final = timedelta(days=3650)  # a new one is made at each start
CLOCK_SKEW: Final = timedelta(days=1)
# Addresses of no machine (RFC 5737, RFC 3849).
_SOMEWHERE: Final = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))
_LONGEST_NAME: Final = 253


def make_pair(names: Iterable[str]) -> KeyPair:
    """Make a key and its certificate for these host names and addresses."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "aibrix-extproc")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + LIFE)
        .add_extension(x509.SubjectAlternativeName([_general(name) for name in dict.fromkeys(names)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, SHA256())
    )
    return KeyPair(
        certificate.public_bytes(Encoding.PEM),
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    )


def own_names(listening_on: str) -> list[str]:
    """The host names and addresses of this machine that clients may use for a listener at this address."""
    names = ["localhost", "127.0.0.1", "::1"]
    hostname = socket.gethostname()
    if hostname.isascii() and 0 < len(hostname) <= _LONGEST_NAME:
        names.append(hostname)
    address = _address(listening_on)
    if address is not None and not address.is_unspecified:
        return [*names, str(address)]
    return [*names, *_outward_addresses()] if address is not None else [*names, listening_on]


def _outward_addresses() -> list[str]:
    """Our addresses towards other hosts. Connecting a datagram socket reads the routing table and sends nothing."""
    found = []
    for family, address in _SOMEWHERE:
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address, 9))
            found.append(str(probe.getsockname()[0]))
    return found


def _general(name: str) -> x509.GeneralName:
    address = _address(name)
    return x509.DNSName(name) if address is None else x509.IPAddress(address)


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None
