"""Answers that are at hand take neither a task nor a coroutine; one that must be waited for takes one."""

import asyncio
from collections.abc import Mapping
from typing import Any

from aibrix_extproc.adapters.extproc.lean_methods import PROCESS_PATH, process_method
from aibrix_extproc.adapters.extproc.session import Session
from aibrix_extproc.http2.handler import Method
from tests.adapters.extproc.test_both_transports import Dispatcher, body, head, response_head, ticking
from tests.build import an_exchange
from tests.http2 import wire
from tests.http2.rig import Log, Talk
from tests.waiting import until


class CountedTasks:
    """A factory of tasks that counts."""

    def __init__(self) -> None:
        self.made = 0

    def __call__(self, loop: asyncio.AbstractEventLoop, work: Any, /, **kind: Any) -> "asyncio.Future[Any]":
        self.made += 1
        return asyncio.Task(work, loop=loop, **kind)


def talk_about(dispatcher: Dispatcher) -> Talk:
    clock = ticking()

    def methods(_: Log) -> Mapping[bytes, Method]:
        def new_session() -> Session:
            return Session(dispatcher, an_exchange(), clock, lambda: "made-id")

        return {PROCESS_PATH: process_method(new_session, asyncio.get_running_loop())}

    return Talk(methods=methods).say(wire.request(1, path=PROCESS_PATH.decode()))


async def test_exchange_whose_answers_are_at_hand_takes_no_task() -> None:
    talk, tasks = talk_about(dispatcher := Dispatcher()), CountedTasks()
    asyncio.get_running_loop().set_task_factory(tasks)
    for number, message in enumerate((head(), body(), response_head()), 1):
        talk.say(wire.data(1, wire.message(message.SerializeToString())))
        assert len(talk.answer().messages) == number  # in the same call, not in a later turn of the loop
    talk.say(wire.data(1, end=True))
    assert (len(dispatcher.finished), tasks.made) == (1, 0)


async def test_exchange_that_waits_for_one_answer_takes_one_task() -> None:
    talk, tasks = talk_about(dispatcher := Dispatcher()), CountedTasks()
    dispatcher.waits = True
    asyncio.get_running_loop().set_task_factory(tasks)
    for message in (head(), body(), response_head()):
        talk.say(wire.data(1, wire.message(message.SerializeToString())))
    assert (len(talk.answer().messages), tasks.made) == (1, 1)
    dispatcher.gate.set()
    await until(lambda: len(talk.answer().messages) == 3)
    assert tasks.made == 1
    talk.connection.lost()
