"""The message by which a gateway says that requests wait for models, and the answer."""

from typing import Final

import msgspec

WAKE_PATH: Final = "/internal/control/v1/wake"
WAKE_KIND: Final = "control_wake"  # of signed message
MAX_MODELS: Final = 1000


class WakeRequest(msgspec.Struct, frozen=True):
    """Models, and lazy adapters, that requests wait for."""

    models: tuple[str, ...]


class WakeAnswer(msgspec.Struct, frozen=True):
    """The seconds that each model's wake will take, by its last one; models without a known wake are left out."""

    seconds: dict[str, float]


_REQUEST: Final = msgspec.json.Decoder(WakeRequest)
_ANSWER: Final = msgspec.json.Decoder(WakeAnswer)


def decode_wake(content: bytes) -> WakeRequest:
    """The request. Raises ValueError, also for one that is too long."""
    found = _REQUEST.decode(content)
    if len(found.models) > MAX_MODELS:
        raise ValueError(f"a request names {MAX_MODELS} models at most")
    return found


def decode_answer(content: bytes) -> WakeAnswer:
    """The answer. Raises ValueError."""
    return _ANSWER.decode(content)
