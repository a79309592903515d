"""The secrets that gateways and metadata services share: from a file that is followed."""

import logging
from collections.abc import Mapping
from pathlib import Path

from aibrix_extproc.adapters.secretfile.source import read_secrets
from aibrix_extproc.app.parts.part import Part
from aibrix_extproc.config_files.errors import SourceFormatError
from aibrix_extproc.config_files.file import FollowedFile, SourceStatus

logger = logging.getLogger(__name__)


class SharedSecrets(Part):
    """The first one signs, all are accepted. Raises SourceError for an unusable file."""

    name = "caller_keys"

    def __init__(self, file: Path | None, gateway_url: str) -> None:
        if file is None:
            raise SourceFormatError(
                "the metadata service needs the file of secrets that it shares with gateways: --note-keys FILE, the"
                f" same as theirs (of the gateway behind {gateway_url})"
            )
        self._file = FollowedFile("note_keys", file, read_secrets, self._on_status)
        self.current = read_secrets(file)

    @property
    def degraded(self) -> bool:
        """Whether the file is broken, and earlier secrets stay in use."""
        return not self._file.status.ok

    async def run(self) -> None:
        """Follow the file, until cancelled."""
        await self._file.run(self._take)

    def report(self) -> Mapping[str, bool]:
        """Whether the file is good."""
        return {"ok": not self.degraded}

    def _take(self, found: tuple[bytes, ...]) -> None:
        self.current = found

    def _on_status(self, status: SourceStatus) -> None:
        if not status.ok:
            logger.error("file of shared secrets is broken, the last good ones stay", extra={"error": status.error})
