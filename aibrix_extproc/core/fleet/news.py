"""Engines that somebody has changed: gateways ask them at once, and not when their turn comes."""

from typing import Final

import msgspec

KEEP_SECONDS: Final = 30.0  # after that, every gateway has asked by itself
MAX_IDENTITIES: Final = 400  # of one record


class EnginesChanged(msgspec.Struct, frozen=True):
    """One record of the control section `news`: these engines were changed at that time."""

    identities: tuple[str, ...]
    wall_at: float
