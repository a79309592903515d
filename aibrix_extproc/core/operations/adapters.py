"""LoRA adapters on engines, as lists of models show them: what must not be asked, and what need not be."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

import msgspec

from aibrix_extproc.core.operations.agreement import EngineAnswer
from aibrix_extproc.core.operations.table import Adapters, EngineOperation

NAME: Final = "lora_name"
PATH: Final = "lora_path"
IN_PLACE: Final = "load_inplace"
MAX_LIST_BYTES: Final = 1024 * 1024
# What is asked before an adapter is loaded or unloaded.
LIST_MODELS: Final = EngineOperation(
    "list_models", "GET", "/v1/models", "Ask which models engines serve", seconds=10.0, max_bytes=MAX_LIST_BYTES
)


class Found(StrEnum):
    """The model that an engine has loaded under an adapter's name."""

    NOTHING = "nothing"
    SAME = "the adapter, from the same path"
    OTHER = "an adapter from another path"
    UNKNOWN = "its list of models cannot be read"


class _Card(msgspec.Struct):
    id: str
    root: str | None = None
    parent: str | None = None


class _Cards(msgspec.Struct):
    data: list[_Card]


_CARDS: Final = msgspec.json.Decoder(_Cards)


def find(answer: EngineAnswer, parameters: Mapping[str, Any]) -> Found:
    """The state of an adapter's name in an engine's list of models. Without a path in the parameters, any path fits."""
    if answer.failure or answer.status != 200:
        return Found.UNKNOWN
    try:
        cards = _CARDS.decode(answer.body).data
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return Found.UNKNOWN
    card = next((one for one in cards if one.id == parameters[NAME]), None)
    if card is None:
        return Found.NOTHING
    return Found.SAME if card.root == parameters.get(PATH, card.root) else Found.OTHER


def conflicts(operation: EngineOperation, parameters: Mapping[str, Any], found: Found) -> bool:
    """Whether the name stands for another adapter there."""
    return operation.adapters is Adapters.LOAD and found is Found.OTHER and not parameters.get(IN_PLACE)


def needless(operation: EngineOperation, parameters: Mapping[str, Any], found: Found) -> str:
    """Why an engine need not be asked; empty if it must be."""
    match operation.adapters:
        case Adapters.LOAD if found is Found.SAME and not parameters.get(IN_PLACE):
            return "it has the adapter already"
        case Adapters.UNLOAD if found is Found.NOTHING:
            return "it does not have the adapter"
    return ""
