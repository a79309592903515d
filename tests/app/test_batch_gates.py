"""Which waiting line of a model is sent next."""

import asyncio

from aibrix_extproc.app.metadata.gates import ModelGate
from aibrix_extproc.core.batches.concurrency import Concurrency


async def test_callers_take_turns_however_many_lines_one_of_them_has_waiting() -> None:
    gate = ModelGate(Concurrency())
    sent: list[str] = []
    go_on = asyncio.Event()

    async def line(caller: str) -> None:
        async with gate.place(caller):
            sent.append(caller)
            await go_on.wait()

    async with asyncio.TaskGroup() as tasks:
        for _ in range(200):
            tasks.create_task(line("alice"))
        await asyncio.sleep(0)
        first = len(sent)
        assert first < 150, "the gate is open wider than this test expects"
        for _ in range(10):
            tasks.create_task(line("bob"))
        await asyncio.sleep(0)
        go_on.set()
    assert sent[first : first + 20].count("bob") == 10
    assert (len(sent), gate.running) == (210, 0)


async def test_line_that_is_cancelled_while_it_waits_leaves_its_turn() -> None:
    gate = ModelGate(Concurrency())
    go_on = asyncio.Event()

    async def line(caller: str) -> None:
        async with gate.place(caller):
            await go_on.wait()

    async with asyncio.TaskGroup() as tasks:
        for _ in range(200):
            tasks.create_task(line("alice"))
        await asyncio.sleep(0)
        waiting = tasks.create_task(line("bob"))
        await asyncio.sleep(0)
        waiting.cancel()
        go_on.set()
    assert gate.running == 0
    async with asyncio.timeout(10), gate.place("carol"):
        assert gate.running == 1
