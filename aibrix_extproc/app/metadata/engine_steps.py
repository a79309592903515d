"""The steps of reconciliation and of sleep at one engine: calls, and the engine's word afterwards."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from aibrix_extproc.adapters.engineops.client import EngineOps
from aibrix_extproc.core.fleet.model import Endpoint
from aibrix_extproc.core.operations.adapters import LIST_MODELS
from aibrix_extproc.core.operations.agreement import EngineAnswer
from aibrix_extproc.core.operations.placed import MAX_DETAIL
from aibrix_extproc.core.operations.policies import ModelPolicy
from aibrix_extproc.core.operations.reconcile import Step, Verb
from aibrix_extproc.core.operations.requests import EngineRequest, request_of
from aibrix_extproc.core.operations.table import ENGINE_OPERATIONS, EngineOperation

LIST_SECONDS: Final = 10.0
CALL_SECONDS: Final = 110.0
DEEP: Final = 2  # the level of sleep that drops the weights
# vLLM has no route of its own for it. No client can send this: the request is fixed here.
RELOAD_WEIGHTS: Final = EngineOperation(
    "reload_weights", "POST", "/collective_rpc", "Read the weights again", serial=True, seconds=600.0
)
_RELOAD_REQUEST: Final = EngineRequest("POST", "/collective_rpc", b'{"method":"reload_weights"}')
_NOT_FOUND: Final = 404


class _Card(msgspec.Struct):
    id: str
    parent: str | None = None
    root: Any = None


class _Cards(msgspec.Struct):
    data: list[_Card]


class _Message(msgspec.Struct):
    message: str = ""


class _Error(msgspec.Struct):
    error: _Message | None = None
    message: str = ""
    detail: Any = None


_CARDS: Final = msgspec.json.Decoder(_Cards)
_ERROR: Final = msgspec.json.Decoder(_Error)


@dataclass(frozen=True, slots=True)
class Failed:
    """A step that failed, in the engine's words."""

    detail: str


Loaded = Mapping[str, str | None]  # adapter -> the path that the engine lists


class EngineSteps:
    """Applies the steps of plans to engines. It raises nothing: a step that failed returns `Failed`."""

    def __init__(self, client: EngineOps) -> None:
        self._client = client

    async def take(self, endpoint: Endpoint, step: Step) -> Failed | None:
        """Load, reload or unload an adapter. None: it is done, or was done already."""
        if step.verb in (Verb.UNLOAD, Verb.EVICT):
            answer = await self._ask(endpoint, "unload_lora_adapter", {"lora_name": step.adapter})
            return None if answer.status == _NOT_FOUND else _failed(answer)
        in_place = {"load_inplace": True} if step.verb is Verb.RELOAD else {}
        params = {"lora_name": step.adapter, "lora_path": step.path, **in_place}
        failed = _failed(await self._ask(endpoint, "load_lora_adapter", params))
        if failed is None and step.verb is Verb.RELOAD:
            # The engine may keep blocks that the adapter of before has computed.
            reset = await self._ask(endpoint, "reset_prefix_cache", {"reset_running_requests": True})
            return None if reset.status == _NOT_FOUND else _failed(reset)
        return failed

    async def loaded(self, endpoint: Endpoint) -> Loaded | Failed:
        """The adapters that the engine lists."""
        answer = await self._client.call(endpoint, LIST_MODELS, request_of(LIST_MODELS, {}), LIST_SECONDS)
        if not answer.is_good:
            return _failed(answer) or Failed("")
        try:
            cards = _CARDS.decode(answer.body).data
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return Failed("its list of models cannot be understood")
        return {card.id: card.root if isinstance(card.root, str) else None for card in cards if card.parent is not None}

    async def sleep(self, endpoint: Endpoint, policy: ModelPolicy) -> Failed | None:
        """Put the engine to sleep; requests that still run are let end. Its own word counts in the end."""
        answer = await self._ask(endpoint, "sleep", {"level": policy.sleep_level, "mode": "wait"})
        return _failed(answer) or await self._expect(endpoint, asleep=True)

    async def wake(self, endpoint: Endpoint, policy: ModelPolicy) -> Failed | None:
        """Wake the engine. After a deep sleep it gets room for its weights, reads them again, and then the rest."""
        if policy.sleep_level == DEEP:
            failed = _failed(await self._ask(endpoint, "wake_up", {"tags": ["weights"]})) or _failed(
                await self._client.call(endpoint, RELOAD_WEIGHTS, _RELOAD_REQUEST, RELOAD_WEIGHTS.seconds)
            )
            if failed is not None:
                return failed
        return _failed(await self._ask(endpoint, "wake_up", {})) or await self._expect(endpoint, asleep=False)

    async def _expect(self, endpoint: Endpoint, *, asleep: bool) -> Failed | None:
        answer = await self._ask(endpoint, "is_sleeping", {})
        wanted = {"is_sleeping": asleep}
        if answer.is_good and not answer.failure and _flags(answer.body) == wanted:
            return None
        return _failed(answer) or Failed(f"the engine is {'still awake' if asleep else 'still asleep'}")

    async def _ask(self, endpoint: Endpoint, operation: str, params: Mapping[str, Any]) -> EngineAnswer:
        row = ENGINE_OPERATIONS[operation]
        return await self._client.call(endpoint, row, request_of(row, params), min(row.seconds, CALL_SECONDS))


def _flags(body: bytes) -> object:
    try:
        return msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _failed(answer: EngineAnswer) -> Failed | None:
    """Why the answer is none, or what the engine says is wrong."""
    if answer.failure:
        return Failed(answer.failure)
    if answer.is_good:
        return None
    text = answer.body[: 4 * MAX_DETAIL].decode("utf-8", "replace")
    try:
        found = _ERROR.decode(answer.body)
        text = (found.error.message if found.error else found.message) or str(found.detail or text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        pass
    return Failed(f"{answer.status}: {text}"[:MAX_DETAIL])
