"""Reads the file of authorities whose clients are accepted, and checks that they are authorities."""

import ssl
from pathlib import Path
from typing import Final

from cryptography import x509

from aibrix_extproc.config_files.errors import SourceFormatError
from aibrix_extproc.config_files.file import read_bytes
from aibrix_extproc.tls.files import MAX_BYTES

FILE_NAME: Final = "ca.crt"  # in a directory, as Kubernetes names it


def read_authorities(path: Path) -> bytes:
    """The certificates of the file, as PEM. Raises SourceError with one sentence for the operator."""
    content = read_bytes(path, MAX_BYTES, what=f"{path}: the client authority", too_large="that is too much for one")
    try:
        found = x509.load_pem_x509_certificates(content)
    except ValueError as error:
        raise SourceFormatError(f"{path}: no certificate in PEM form") from error
    for one in found:
        if not _may_certify(one):
            name = one.subject.rfc4514_string() or "a certificate without a subject"
            raise SourceFormatError(f"{path}: {name} is no authority; give the one that signed the clients'")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cadata=content.decode("ascii", "replace"))
    except ssl.SSLError as error:
        raise SourceFormatError(f"{path}: OpenSSL does not take it: {error.reason}") from error
    return content


def _may_certify(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return certificate.version is x509.Version.v1 and certificate.issuer == certificate.subject
    except ValueError:
        return False
