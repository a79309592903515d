"""Vouches for callers towards the metadata service, and believes it when it speaks for one."""

from collections.abc import Callable, Sequence

from aibrix_extproc.core.access.principal import principal_of
from aibrix_extproc.core.access.signed_caller import LIFE_SECONDS, SignedCaller, sign, verify
from aibrix_extproc.core.openai.contract.headers import ON_BEHALF, SIGNED_CALLER
from aibrix_extproc.core.openai.contract.operations import Operation, Role
from aibrix_extproc.core.placing import Caller


class Credentials:
    """Signs with the first of the secrets that our processes share, and accepts what any of them has signed."""

    def __init__(self, secrets: Callable[[], Sequence[bytes]], wall_clock: Callable[[], float]) -> None:
        self._secrets = secrets
        self._wall_clock = wall_clock

    def vouch(self, caller: Caller, request_id: str, operation: Operation) -> str:
        """The header for the metadata service, with the caller's rights if not everybody may use the operation."""
        expires = int(self._wall_clock()) + LIFE_SECONDS
        grants = None if operation.role is Role.USER else principal_of(caller).grants
        statement = SignedCaller(caller.name, request_id, operation.id, expires, grants=grants)
        return sign(self._secrets()[0], SIGNED_CALLER, statement)

    def vouched(self, header: str, operation: str) -> SignedCaller | None:
        """What a worker of batches has signed: whom it speaks for; None if none of ours has signed this."""
        return verify(self._secrets(), ON_BEHALF, header, operation, self._wall_clock())
