"""The callers of this moment: one cell that the watched key file writes and every authentication reads.

It fails closed: as long as a key file is configured and was never read, nobody gets in, static keys included.
"""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum
from typing import Final

from aibrix_extproc.adapters.keyfile.source import read_keys, read_one_key
from aibrix_extproc.app.parts.part import Meters, Part
from aibrix_extproc.config_files.file import DEFAULT_PACE, FollowedFile, Pace, SourceStatus
from aibrix_extproc.core.access.api_keys import ApiKeys
from aibrix_extproc.core.access.holders import KeyHolder, admin_holder, static_holders
from aibrix_extproc.core.access.keys import UNREAD_RING, KeyRing
from aibrix_extproc.core.access.limits.records import LimitRecord
from aibrix_extproc.core.placing import ANYONE
from aibrix_extproc.settings import AccessSettings

logger = logging.getLogger(__name__)
MAX_NAMED: Final = 20  # records of the API that the file overrules


class Who(StrEnum):
    """Whom a gateway lets in."""

    EVERYONE = "everyone"  # it is configured without keys
    HOLDERS = "holders of keys"
    NOBODY = "nobody"  # a key file is configured, and is empty or was never read


class KeyStore(Part):
    """The current key ring."""

    name = "keys"

    def __init__(self, access: AccessSettings, *, api: ApiKeys | None = None, pace: Pace = DEFAULT_PACE) -> None:
        """`api`: the keys of the control feed, in a gateway that has one."""
        self._api = api
        self._required = access.required
        keys = (key.get_secret_value() for key in access.api_keys)
        self._static = static_holders(keys, engine_controls=access.engine_controls)
        self._admin = () if access.admin_key_file is None else (admin_holder(read_one_key(access.admin_key_file)),)
        self._file: FollowedFile[tuple[KeyHolder, ...]] | None = None
        if access.key_file is not None:
            self._file = FollowedFile("keys", access.key_file, read_keys, self._on_status, pace=pace)
        self._known = asyncio.Event()
        self._callers = len(self._static)
        self.limits: tuple[LimitRecord, ...] = ()  # that the key file says of its callers
        if self._file is not None:
            self.ring = UNREAD_RING
        else:
            everyone = (
                None if self._static or access.required else replace(ANYONE, engine_controls=access.engine_controls)
            )
            self.ring = KeyRing((*self._static, *self._admin), always=everyone, api=api)
            self._known.set()

    @property
    def known(self) -> bool:
        """Whether the ring says what an operator wrote, now or before a broken edit."""
        return self._known.is_set()

    @property
    def degraded(self) -> bool:
        """Whether the key file is broken or was never read."""
        return self.status is not None and not self.status.ok

    @property
    def status(self) -> SourceStatus | None:
        """The key file's; None without one."""
        return None if self._file is None else self._file.status

    @property
    def who(self) -> Who:
        """The callers who are let in at this moment: `everyone`, `holders of keys` or `nobody`."""
        if self._file is None and not self._static and not self._required:
            return Who.EVERYONE
        return Who.HOLDERS if len(self.ring) else Who.NOBODY

    async def wait_known(self) -> None:
        """Return once the keys were read."""
        await self._known.wait()

    async def run(self) -> None:
        """Follow the key file, until cancelled. Returns at once without one, after a warning if there are no keys."""
        if self.who is Who.EVERYONE:
            logger.warning(
                "no keys are configured: everyone who reaches this gateway may use every model;"
                " set access.key_file (--key-file) or access.api_keys"
            )
        if self._file is not None:
            await self._file.run(self._take)

    def report(self) -> Mapping[str, object]:
        """The callers who are let in, and the state of the key file."""
        found: dict[str, object] = {
            "who": self.who.value, "known": self.known, "callers": self._callers, "keys": len(self.ring)
        }  # fmt: skip
        if self._api is not None:
            overruled = self.ring.overruled
            found |= {"of_api": len(self._api), "overruled": len(overruled), "overruled_first": overruled[:MAX_NAMED]}
        if self.status is not None:
            found |= {"ok": self.status.ok, "error": self.status.error, "since": self.status.wall_since}
        return found

    def register(self, metrics: Meters) -> None:
        """Whether the key file is good, if there is one."""
        if self._file is not None:
            metrics.gauge("aibrix_extproc_key_file_ok", lambda: not self.degraded)

    def _take(self, holders: tuple[KeyHolder, ...]) -> None:
        # The file comes first: a static key that it holds too has the permissions and the end that it says.
        everyone = (*holders, *self._static, *self._admin)
        self.ring = KeyRing(everyone, api=self._api)
        self._callers = len(everyone)
        self.limits = tuple(limit for holder in holders for limit in holder.limits)
        self._known.set()
        logger.info("keys read", extra={"callers": self._callers, "keys": len(self.ring)})
        if self.ring.overruled:
            logger.warning(
                "the key file has callers or keys of the API, which count as the file says",
                extra={"names": self.ring.overruled[:MAX_NAMED]},
            )
        if self.who is Who.NOBODY:
            logger.warning("the key file holds no key: nobody is let in; make one with `aibrix-extproc keys new`")

    def _on_status(self, status: SourceStatus) -> None:
        if status.ok:
            logger.info("key file is good")
        elif self.known:
            logger.error("key file is broken, the last good keys stay in use", extra={"error": status.error})
        else:
            logger.error("key file cannot be used, nobody is let in", extra={"error": status.error})
