"""Weights: their version, updates of them, checksums, and the number of workers."""

import hashlib
from typing import Final

from aibrix_extproc.simulator.errors import EngineError
from aibrix_extproc.simulator.query import boolean
from aibrix_extproc.simulator.reading import read_embedded
from aibrix_extproc.simulator.requests import (
    CheckWeightsBody,
    FinishUpdateBody,
    UpdateWeightsBody,
    WeightVersionBody,
)
from aibrix_extproc.simulator.wire import Answer, Call, json_reply

TENSORS: Final = ("lm_head.weight", "model.embed_tokens.weight", "model.norm.weight")
_NOT_CONFIGURED: Final = (
    "Call to collective_rpc method failed: Worker failed with error 'Weight transfer not configured. Please set "
    "weight_transfer_config to enable weight transfer.', please check the stack trace above for the root cause"
)


async def start_weight_update(call: Call) -> Answer:
    """Begin an update."""
    _require_transfer(call)
    return json_reply({"message": "Weight update started"})


async def update_weights(call: Call) -> Answer:
    """Take new weights; the answers stay the same, the checksums do not."""
    body = read_embedded(call, UpdateWeightsBody)
    _require_transfer(call)
    call.engine.take_weights(repr(sorted(body.update_info.items())))
    return json_reply({"message": "Weights updated"})


async def finish_weight_update(call: Call) -> Answer:
    """End an update, and perhaps name the weights."""
    body = read_embedded(call, FinishUpdateBody)
    _require_transfer(call)
    if body.weight_version is not None:
        call.engine.weight_version = body.weight_version
    return json_reply({"message": "Weight update finished"})


async def update_weight_version(call: Call) -> Answer:
    """Name the weights."""
    body = read_embedded(call, WeightVersionBody)
    call.engine.weight_version = body.new_version
    return json_reply({"success": True, "new_version": body.new_version})


async def weight_info(call: Call) -> Answer:
    """The name of the weights."""
    return json_reply({"weight_version": call.engine.weight_version})


async def weight_checker(call: Call) -> Answer:
    """Checksums of the weights, alone or compared."""
    body = read_embedded(call, CheckWeightsBody)
    if body.action == "reset":
        call.engine.take_weights("reset")
        return json_reply({"status": "reset"})
    if body.action == "compare" and body.baseline is None:
        raise EngineError(400, "Bad Request", "action='compare' requires a 'baseline' object")
    checksums = {
        f"dp0:pp0:pcp0:tp0:{name}": hashlib.sha256(f"{call.engine.weights}\0{name}".encode()).hexdigest()
        for name in TENSORS
    }
    if body.baseline is None or body.action == "checksum":
        return json_reply({"checksums": checksums})
    baseline = body.baseline
    names = sorted(name for name in checksums.keys() | baseline.keys() if checksums.get(name) != baseline.get(name))
    return json_reply({"match": not names, "mismatches": names})


async def get_world_size(call: Call) -> Answer:
    """One worker."""
    boolean(call, "include_dp", default=True)
    return json_reply({"world_size": 1})


def _require_transfer(call: Call) -> None:
    if not call.engine.options.weight_transfer:
        raise EngineError(500, "InternalServerError", _NOT_CONFIGURED)
