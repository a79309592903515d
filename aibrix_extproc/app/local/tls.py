"""Mutual TLS between the Envoy and the workers of `local`: other users of the machine reach their ports, too."""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

from aibrix_extproc.adapters.envoyproxy.spec import ProcessorTls
from aibrix_extproc.app.local.secrets import write_secret

SERVER_NAME: Final = "workers.aibrix-extproc.local"
ENVOY_NAME: Final = "envoy.aibrix-extproc.local"
_LIFE: Final = timedelta(days=3650)  # new ones are made at each start


@dataclass(frozen=True, slots=True)
class LocalTls:
    """The certificates by which the workers and Envoy authenticate each other."""

    workers: Path  # folder with their certificate, its key and the authority
    envoy: ProcessorTls

    @property
    def flags(self) -> tuple[str, ...]:
        """The options of `serve`."""
        folder = str(self.workers)
        return ("--tls", "files", "--tls-cert", folder, "--tls-client-ca", folder, "--tls-client-name", ENVOY_NAME)


def mutual_tls(directory: Path) -> LocalTls:
    """Certificates of an authority whose key is never written, so that it certifies no others."""
    from aibrix_extproc.tls.authority import Role, make_authority  # imports `cryptography`

    authority = make_authority("aibrix-extproc local", _LIFE)
    ends = {}
    for end, role, name in (("workers", Role.SERVER, SERVER_NAME), ("envoy", Role.CLIENT, ENVOY_NAME)):
        folder = ends[end] = directory / "tls" / end
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        pair = authority.certify(role, (name,), _LIFE)
        for file, content in (("tls.crt", pair.certificate), ("tls.key", pair.key), ("ca.crt", authority.certificate)):
            write_secret(folder / file, content)
    envoy = ends["envoy"]
    return LocalTls(ends["workers"], ProcessorTls(envoy / "ca.crt", SERVER_NAME, envoy / "tls.crt", envoy / "tls.key"))
