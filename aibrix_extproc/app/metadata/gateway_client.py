"""The gateway as the worker of batches uses it: on behalf of a batch's owner, by a signed header."""

import json
import math
from collections.abc import Callable, Sequence
from typing import Final

import aiohttp

from aibrix_extproc.adapters.openai_http.call import ContentError
from aibrix_extproc.core.access.signed_caller import LIFE_SECONDS, SignedCaller, sign
from aibrix_extproc.core.batches.records import BatchRecord
from aibrix_extproc.core.openai.contract.headers import ON_BEHALF
from aibrix_extproc.core.openai.contract.operation_rows import BATCH_OPERATIONS

_LIST: Final = "list_models"
_MADE: Final = 64  # batches whose signature is kept
_TIMEOUT: Final = aiohttp.ClientTimeout(total=30)


class GatewayClient:
    """Asks what the owner of a batch may use, and makes the headers that speak for it."""

    def __init__(
        self, session: aiohttp.ClientSession, base_url: str, secrets: Callable[[], Sequence[bytes]],
        wall_clock: Callable[[], float],
    ) -> None:  # fmt: skip
        self._session = session
        self._base_url = base_url.rstrip("/")
        self._secrets = secrets
        self._wall_clock = wall_clock
        self._made: dict[str, tuple[float, dict[str, str]]] = {}  # by batch: when, and its headers

    def headers(self, batch: BatchRecord) -> dict[str, str]:
        """For lines of the batch. One signature serves for half of its life, as making one costs 30 us."""
        now = self._wall_clock()
        made, headers = self._made.get(batch.id, (-math.inf, {}))
        if not 0 <= now - made < LIFE_SECONDS / 2:
            headers = self._signed(batch, BATCH_OPERATIONS[batch.endpoint].id)
            if len(self._made) >= _MADE:
                self._made.clear()
            self._made[batch.id] = now, headers
        return headers

    async def models(self, batch: BatchRecord) -> frozenset[str]:
        """The models that the owner may use. Raises ContentError."""
        headers = self._signed(batch, _LIST)
        try:
            async with self._session.get(f"{self._base_url}/v1/models", headers=headers, timeout=_TIMEOUT) as answer:
                if answer.status != 200:
                    raise ContentError(f"the gateway answered {answer.status} when it was asked for its models")
                listed = json.loads(await answer.read())
            return frozenset(one["id"] for one in listed["data"])
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError, KeyError, TypeError) as error:
            raise ContentError(f"the gateway's models could not be read: {error}") from error

    def _signed(self, batch: BatchRecord, operation: str) -> dict[str, str]:
        expires = int(self._wall_clock()) + LIFE_SECONDS
        statement = SignedCaller(batch.caller, batch.id, operation, expires, batch.id)
        return {ON_BEHALF: sign(self._secrets()[0], ON_BEHALF, statement)}
