"""Seals what a placement leaves in Envoy to be charged, and checks what comes back in access log entries."""

import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from aibrix_extproc.adapters.secretfile.source import read_secrets
from aibrix_extproc.app.parts.part import Meters, Part
from aibrix_extproc.config_files.file import DEFAULT_PACE, FollowedFile, Pace, SourceStatus
from aibrix_extproc.core.access.replays import Use, UsedSeals
from aibrix_extproc.core.access.seals import MIN_KEY_BYTES, SealedPlacement, SealKey, opened, sealed
from aibrix_extproc.core.exchange.outputs import DynamicMetadata

logger = logging.getLogger(__name__)

LIFE_SECONDS: Final = 86_400  # no exchange is longer; a stolen seal is worth nothing afterwards


class NoteSeals(Part):
    """One per process. Keys come from the file, or one is made at random. Raises SourceError for an unusable file."""

    name = "note_keys"

    def __init__(
        self,
        file: Path | None,
        wall_clock: Callable[[], float],
        on_refused: Callable[[str], None],
        *,
        pace: Pace = DEFAULT_PACE,
    ) -> None:
        self._wall_clock = wall_clock
        self._on_refused = on_refused
        self._file = None if file is None else FollowedFile("note_keys", file, read_secrets, self._on_status, pace=pace)
        self._secrets = (os.urandom(MIN_KEY_BYTES),) if file is None else read_secrets(file)
        self._keys = tuple(map(SealKey, self._secrets))
        self._issuer = int.from_bytes(os.urandom(8))
        self._number = 0
        self._used = UsedSeals()
        self._subscribers: list[Callable[[tuple[bytes, ...]], None]] = []

    @property
    def secrets(self) -> tuple[bytes, ...]:
        """The secrets in force, the one that signs first. Each use derives keys of its own from them."""
        return self._secrets

    def subscribe(self, use: Callable[[tuple[bytes, ...]], None]) -> None:
        """Hand over the secrets whenever they are replaced."""
        self._subscribers.append(use)

    @property
    def degraded(self) -> bool:
        """Whether the file is broken, and earlier keys stay in use."""
        return self._file is not None and not self._file.status.ok

    async def run(self) -> None:
        """Follow the file, until cancelled; returns at once without one."""
        if self._file is not None:
            await self._file.run(self._take)

    def seal(self, metadata: DynamicMetadata) -> DynamicMetadata:
        """The dynamic metadata with the sealed text."""
        self._number = number = self._number + 1
        at = int(self._wall_clock())
        placed = SealedPlacement(
            at,
            self._issuer,
            number,
            metadata.request_id,
            metadata.operation,
            metadata.model,
            metadata.caller,
            metadata.stream,
            metadata.key_id,
            metadata.batch_id,
            metadata.response_id,
            metadata.reservation,
        )
        return replace(metadata, sealed=sealed(self._keys[0], placed))

    def admit(self, text: bytes) -> SealedPlacement | None:
        """The content of a sealed text that is ours and not used yet; for any other None, and its reason is counted."""
        placed = opened(self._keys, text)
        reason = ("forged" if text else "unsealed") if placed is None else self._refusal(placed)
        if reason is None:
            return placed
        self._on_refused(reason)
        return None

    def _refusal(self, placed: SealedPlacement) -> str | None:
        if self._wall_clock() - placed.wall_at > LIFE_SECONDS:
            return "expired"
        use = self._used.use(placed)
        return None if use is Use.FIRST else use.value

    def report(self) -> Mapping[str, object]:
        """The number of keys, and the state of their file."""
        found: dict[str, object] = {"keys": len(self._keys), "shared": self._file is not None}
        if self._file is not None:
            status = self._file.status
            found |= {"ok": status.ok, "error": status.error, "since": status.wall_since}
        return found

    def register(self, metrics: Meters) -> None:
        """Whether the file is good, if there is one."""
        if self._file is not None:
            metrics.gauge("aibrix_extproc_note_keys_ok", lambda: not self.degraded)

    def _take(self, secrets: tuple[bytes, ...]) -> None:
        if secrets != self._secrets:
            self._secrets, self._keys = secrets, tuple(map(SealKey, secrets))
            for use in self._subscribers:
                use(secrets)
            logger.info("note keys were replaced", extra={"keys": len(secrets)})

    def _on_status(self, status: SourceStatus) -> None:
        if status.ok:
            logger.info("file of note keys is good")
        else:
            logger.error("file of note keys is broken, the last good keys stay in use", extra={"error": status.error})
