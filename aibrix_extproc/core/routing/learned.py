"""What a gateway has learned of engines and models, as bytes for the next one: speeds, lengths, sizes of caches.

It is read as something that anybody may have written: what is no number in its bounds is left out, and nothing raises.
It never replaces what a process has learned by itself.
"""

import math
from collections.abc import Iterator
from typing import Final

import msgspec

from aibrix_extproc.core.routing.predictor import Predictor

MAX_BYTES: Final = 57_344  # that one reading of Redis brings
_VERSION: Final = 1
_MODELS, _ENGINES = 200, 2_000
_NAME: Final = 256
_PACES: Final = (1e-8, 1.0)  # seconds for a token of a prompt
_STEPS: Final = (1e-5, 100.0)  # seconds for a token of an answer
_FACTORS: Final = (1 / 16, 4.0)
_OUTPUTS: Final = (0.0, 1e5)
_BYTES: Final = (1.0, 1e12)
_TOKENS: Final = (1.0, 1e12)


class _Model(msgspec.Struct, frozen=True, gc=False, array_like=True):
    name: str
    input_bytes: float
    input_tokens: float
    output_tokens: float


class _Group(msgspec.Struct, frozen=True, gc=False, array_like=True):
    name: str
    pace: float
    step: float


class _Engine(msgspec.Struct, frozen=True, gc=False, array_like=True):
    identity: str
    group: str
    pace: float
    step: float
    cache_factor: float  # of what the engine reports as the size of its cache


class _Learned(msgspec.Struct, frozen=True, gc=False, array_like=True):
    version: int
    models: tuple[_Model, ...] = ()
    groups: tuple[_Group, ...] = ()
    engines: tuple[_Engine, ...] = ()


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Learned).decode


def learned(predictor: Predictor) -> bytes:
    """At most MAX_BYTES; of a large fleet a part."""
    speeds = predictor.speeds
    models = tuple(_models(predictor))[:_MODELS]
    groups = tuple(_Group(*one) for one in speeds.groups() if len(one[0]) <= _NAME)[:_MODELS]
    engines = [
        _Engine(identity, group, pace, step, predictor.audit.factor(identity))
        for identity, group, pace, step in speeds.engines()
        if len(identity) + len(group) <= _NAME
    ][:_ENGINES]
    while True:
        data = _encode(_Learned(_VERSION, models, groups, tuple(engines)))
        if len(data) <= MAX_BYTES:
            return data
        if not engines:
            models = models[: len(models) // 2]
            groups = groups[: len(groups) // 2]
        engines = engines[: len(engines) // 2]


def remember(predictor: Predictor, data: bytes) -> int:
    """Take over what another process has learned; the number of engines, 0 for bytes that say nothing."""
    try:
        found = _decode(data) if len(data) <= MAX_BYTES else None
    except msgspec.DecodeError:
        found = None
    if found is None or found.version != _VERSION:
        return 0
    for model in found.models[:_MODELS]:
        if _within(model.input_bytes, _BYTES) and _within(model.input_tokens, _TOKENS) and len(model.name) <= _NAME:
            predictor.ratios.remember(model.name, model.input_bytes, model.input_tokens)
        if _within(model.output_tokens, _OUTPUTS) and model.output_tokens and len(model.name) <= _NAME:
            predictor.remember_output(model.name, model.output_tokens)
    for group in found.groups[:_MODELS]:
        if _within(group.pace, _PACES) and _within(group.step, _STEPS) and len(group.name) <= _NAME:
            predictor.speeds.remember_group(group.name, group.pace, group.step)
    return sum(_remember(predictor, one) for one in found.engines[:_ENGINES])


def _models(predictor: Predictor) -> Iterator[_Model]:
    outputs = predictor.outputs
    for name, (size, tokens) in predictor.ratios.known():
        if len(name) <= _NAME:
            yield _Model(name, size, tokens, outputs.get(name, 0.0))


def _remember(predictor: Predictor, engine: _Engine) -> bool:
    good = _within(engine.pace, _PACES) and _within(engine.step, _STEPS) and _within(engine.cache_factor, _FACTORS)
    if not good or len(engine.identity) + len(engine.group) > _NAME:
        return False
    predictor.speeds.remember(engine.identity, engine.pace, engine.step)
    predictor.audit.remember(engine.identity, engine.cache_factor)
    return True


def _within(number: float, bounds: tuple[float, float]) -> bool:
    return math.isfinite(number) and bounds[0] <= number <= bounds[1]
