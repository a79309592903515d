"""POST /kv_blocks/REQUEST, in place of NIXL's side channel: another engine reads the blocks of a prompt."""

from aibrix_extproc.simulator.wire import Answer, Call, json_reply


async def give(call: Call) -> Answer:
    """200 for blocks that are here, once; then they are free, and a 404."""
    return json_reply({}, status=200 if call.engine.transfers.hand_out(call.path_values[0]) else 404)
