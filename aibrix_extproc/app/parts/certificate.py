"""The certificate of the ext_proc listener, made at start or followed in its files, and the trusted authorities."""

import asyncio
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from aibrix_extproc.app.parts.part import Meters, Part
from aibrix_extproc.config_files.file import DEFAULT_PACE, FollowedFile, Pace, SourceStatus
from aibrix_extproc.settings import ServerSettings
from aibrix_extproc.tls.client_ca import FILE_NAME, read_authorities
from aibrix_extproc.tls.credentials import KeyPair, ServerCredentials
from aibrix_extproc.tls.files import PairFiles, read_pair
from aibrix_extproc.tls.pair import describe
from aibrix_extproc.tls.self_signed import make_pair, own_names

logger = logging.getLogger(__name__)


class CertificateStore(Part):
    """The credentials of the moment. Raises SourceError if there are none to begin with."""

    name = "certificate"

    def __init__(self, server: ServerSettings, *, pace: Pace = DEFAULT_PACE) -> None:
        self._files: PairFiles | None = None
        if server.tls_cert is None:
            pair = make_pair((*own_names(server.host), *server.tls_names))
        else:
            certificate, key = _paths(server.tls_cert, server.tls_key)
            pair = read_pair(certificate, key)
            self._files = PairFiles(certificate, key, self._on_status, pace=pace)
        self._clients: FollowedFile[bytes] | None = None
        client_ca = None
        if server.tls_client_ca is not None:
            path = server.tls_client_ca / FILE_NAME if server.tls_client_ca.is_dir() else server.tls_client_ca
            client_ca = read_authorities(path)
            self._clients = FollowedFile("client_ca", path, read_authorities, self._on_clients_status, pace=pace)
        self.credentials = ServerCredentials(pair, client_ca, server.tls_client_names)
        self._described = describe(pair)
        self._say("certificate in use")

    @property
    def degraded(self) -> bool:
        """Whether files are broken, and an earlier pair stays in use."""
        return any(one is not None and not one.status.ok for one in (self._files, self._clients))

    @property
    def wall_expires_at(self) -> float:
        """The end of the certificate in use, in seconds since the epoch."""
        return self._described.wall_expires_at

    async def run(self) -> None:
        """Follow the files, until cancelled; returns at once without them."""
        async with asyncio.TaskGroup() as following:
            if self._files is not None:
                following.create_task(self._files.run(self._take))
            if self._clients is not None:
                following.create_task(self._clients.run(self._trust))

    def report(self) -> Mapping[str, object]:
        """Names and end of the certificate in use, and the state of its files."""
        found: dict[str, object] = {"names": list(self._described.names), "expires": self._expires()}
        if self._files is not None:
            status = self._files.status
            found |= {"ok": status.ok, "error": status.error, "since": status.wall_since}
        if self._clients is not None:
            status = self._clients.status
            clients = {"ok": status.ok, "error": status.error, "since": status.wall_since}
            found["clients"] = clients | {"names": list(self.credentials.names)}
        return found

    def register(self, metrics: Meters) -> None:
        """The state of the files, and when the certificate ends."""
        metrics.gauge("aibrix_extproc_certificate_ok", lambda: not self.degraded)
        metrics.gauge("aibrix_extproc_certificate_expiry_timestamp_seconds", lambda: self.wall_expires_at)

    def _take(self, pair: KeyPair) -> None:
        if pair != self.credentials.pair:
            self.credentials.replace(pair)
            self._described = describe(pair)
            self._say("certificate was replaced")

    def _trust(self, client_ca: bytes) -> None:
        if client_ca != self.credentials.client_ca:
            self.credentials.trust(client_ca)
            logger.info("authorities of clients were replaced")

    def _say(self, what: str) -> None:
        expired = self.wall_expires_at <= datetime.now(UTC).timestamp()
        level = logging.WARNING if expired else logging.INFO
        logger.log(level, what, extra={"names": self._described.names, "expires": self._expires()})

    def _expires(self) -> str:
        return datetime.fromtimestamp(self.wall_expires_at, UTC).isoformat()

    def _on_status(self, status: SourceStatus) -> None:
        if status.ok:
            logger.info("certificate files are good")
        else:
            logger.error("certificate files are broken, the last good pair stays in use", extra={"error": status.error})

    def _on_clients_status(self, status: SourceStatus) -> None:
        if status.ok:
            logger.info("file of client authorities is good")
        else:
            extra = {"error": status.error}
            logger.error("file of client authorities is broken, the last good ones stay in use", extra=extra)


def _paths(certificate: Path, key: Path | None) -> tuple[Path, Path]:
    """The two files; a directory has them under the names that Kubernetes gives."""
    if key is not None:
        return certificate, key
    return certificate / "tls.crt", certificate / "tls.key"
