"""Checks that a certificate and a key can be used together, and describes the certificate."""

import ssl
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from aibrix_extproc.config_files.errors import SourceFormatError
from aibrix_extproc.tls.credentials import KeyPair, server_context


@dataclass(frozen=True, slots=True)
class Described:
    """The facts of a certificate that are reported."""

    names: tuple[str, ...]  # host names and addresses
    wall_expires_at: float


def check(pair: KeyPair, certificate: str, key: str) -> None:
    """Raise SourceFormatError for a pair that no handshake could use; the two texts name the files.

    An expired certificate passes: `Described` shows its end.
    """
    first = _first(pair, certificate)
    try:
        private = load_pem_private_key(pair.key, password=None)
    except TypeError as error:
        raise SourceFormatError(f"{key}: the key is encrypted; give it without a passphrase") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise SourceFormatError(f"{key}: no private key in PEM form") from error
    if private.public_key() != first.public_key():
        raise SourceFormatError(f"{key}: the key does not belong to the first certificate of {certificate}")
    try:
        server_context(pair)
    except ssl.SSLError as error:
        raise SourceFormatError(f"{certificate}: OpenSSL does not take it: {error.reason}") from error


def describe(pair: KeyPair) -> Described:
    """The names and the end of a certificate that `check` has accepted."""
    first = _first(pair, "")
    try:
        found = first.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        names: list[str] = []
    else:
        names = [*found.get_values_for_type(x509.DNSName), *map(str, found.get_values_for_type(x509.IPAddress))]
    return Described(tuple(names), first.not_valid_after_utc.timestamp())


def _first(pair: KeyPair, file: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificates(pair.certificate)[0]
    except ValueError as error:
        raise SourceFormatError(f"{file}: no certificate in PEM form") from error
