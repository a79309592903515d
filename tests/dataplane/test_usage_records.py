"""A usage record for each exchange, and that the records' sum is what the engines have counted."""

import asyncio
import json
import os
import signal
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.dataplane.children import Child
from tests.dataplane.engines import EngineSpec
from tests.dataplane.stack import METERED, Stack
from tests.waiting import eventually, until

FLEET = (
    EngineSpec("e0", ("chat-m",)),
    EngineSpec("e1", ("chat-m",)),
    EngineSpec("emb", ("emb-m",), ("--task", "embed")),
)
CHAT: dict[str, Any] = {"model": "chat-m", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 8}
PATH = "/v1/chat/completions"
Record = dict[str, Any]


class Accounts:
    """A metadata service beside a stack, and its ledger as a reader sees it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = 0
        (directory / "note-keys").write_text("note-key-of-the-tests-" + "0" * 20)  # as the stack's
        self.child = self._start()

    def _start(self) -> Child:
        command = [sys.executable, "-m", "aibrix_extproc", "metadata", "--data", str(self.directory / "data")]
        options = ["--metadata-port", str(self.port), "--admin-port", "0"]
        child = Child(
            "metadata", [*command, *options, "--note-keys", str(self.directory / "note-keys")], self.directory
        )
        line = json.loads(child.wait_output('"listening"'))
        self.port = int(line["api"].rpartition(":")[2])
        return child

    def restart(self) -> None:
        self.child = self._start()

    def records(self) -> list[Record]:
        with closing(sqlite3.connect(self.directory / "data" / "ledger.sqlite", timeout=10)) as ledger:
            ledger.row_factory = sqlite3.Row
            return [dict(row) for row in ledger.execute("SELECT * FROM usage_records ORDER BY at, id")]

    def wait(self, count: int) -> list[Record]:
        eventually(lambda: len(self.records()) >= count, lambda: f"{count} records, not {len(self.records())}")
        return self.records()


@pytest.fixture
def accounts(tmp_path: Path) -> Iterator[Accounts]:
    directory = tmp_path / "accounts"
    directory.mkdir()
    made = Accounts(directory)
    yield made
    if made.child.running:
        made.child.kill()


@pytest.fixture
def stack(accounts: Accounts, new_stack: Callable[..., Stack]) -> Stack:
    control = ("--metering", "--control-url", f"http://127.0.0.1:{accounts.port}")
    spool = ("--usage-spool", str(accounts.directory / "spool"))
    return new_stack(FLEET, workers_wanted=2, envoy_options=METERED, serve_arguments=(*control, *spool))


def counted(stack: Stack) -> dict[str, int]:
    """What the engines have counted."""
    stats = [stack.engine(spec.name).stats() for spec in FLEET]
    return {name: int(sum(one[name] for one in stats)) for name in ("prompt_tokens", "generation_tokens")}


CLIENTS = 8  # that ask at once


def totals(records: list[Record]) -> dict[str, int]:
    return {
        "prompt_tokens": sum(one["input_tokens"] for one in records),
        "generation_tokens": sum(one["output_tokens"] for one in records),
    }


def test_use_01_each_exchange_has_one_record_with_its_tokens(stack: Stack, accounts: Accounts) -> None:
    before = counted(stack)
    assert stack.post(PATH, CHAT).status == 200
    assert stack.post(PATH, CHAT | {"stream": True}).status == 200
    assert stack.post("/v1/embeddings", {"model": "emb-m", "input": "a few words"}).status == 200
    assert stack.post(PATH, CHAT | {"model": "nope"}).status == 404  # never placed: no record
    assert stack.post(PATH, CHAT, x_sim_fault="status;code=500").status >= 500
    records = accounts.wait(4)
    assert len({one["id"] for one in records}) == len(records) == 4
    assert sorted((one["operation"], one["status"] == 200, one["finish"]) for one in records) == [
        ("chat_completion", False, ""), ("chat_completion", True, ""), ("chat_completion", True, "complete"),
        ("embedding", True, ""),
    ]  # fmt: skip
    assert {one["caller"] for one in records} == {"anyone"}
    assert not any(one["estimated"] for one in records)
    spent = {name: value - before[name] for name, value in counted(stack).items()}
    assert totals(records) == spent


def test_use_01_stream_that_the_client_left_is_estimated(stack: Stack, accounts: Accounts) -> None:
    assert stack.post(PATH, CHAT).status == 200  # from which the gateways learn
    headers = {"x-sim-fault": "stall-mid-stream;after=100", "x-sim-tokens": "400"}
    with stack.client() as client:
        stream = client.chat.completions.create(**CHAT | {"max_tokens": 400}, stream=True, extra_headers=headers)
        for _, _ in zip(range(100), stream, strict=False):
            pass
        stream.close()
    (left,) = (one for one in accounts.wait(2) if one["finish"])
    assert (left["finish"], left["estimated"]) == ("left", 1)
    assert 80 <= left["output_tokens"] <= 160  # what was on its way to the client counts


async def test_use_02_killed_gateway_leaves_exactly_one_record(stack: Stack, accounts: Accounts) -> None:
    async with stack.async_client() as client:
        headers = {"x-sim-itl-ms": "20", "x-sim-tokens": "60"}
        streams = [
            await client.chat.completions.create(**CHAT | {"max_tokens": 60}, stream=True, extra_headers=headers)
            for _ in range(6)
        ]
        engines = [stack.engine(name) for name in ("e0", "e1")]
        for engine in engines:  # no stream ends before there is a gateway again, which may take long
            await asyncio.to_thread(engine.post, "/pause?mode=keep")
        for worker in stack.workers:  # both have placed some of them
            worker.child.kill()
        await asyncio.to_thread(stack.restart_worker, 0)
        await asyncio.to_thread(eventually, lambda: stack.send("GET", "/v1/models").status == 200, "it answers")
        for engine in engines:
            await asyncio.to_thread(engine.post, "/resume")
        for stream in streams:
            async for _ in stream:
                pass
    records = await asyncio.to_thread(accounts.wait, 6)
    assert len({one["request_id"] for one in records}) == len(records) == 6
    assert {one["output_tokens"] for one in records} == {60}


def test_use_06_ledger_that_is_away_gets_all_records_afterwards(stack: Stack, accounts: Accounts) -> None:
    accounts.child.kill()
    for _ in range(30):
        assert stack.post(PATH, CHAT).status == 200
    eventually(lambda: sum(waiting(stack)) == 30, lambda: f"30 records wait, not {waiting(stack)}")
    for index in range(2):  # a gateway that is killed meanwhile leaves its own in its spool
        os.kill(stack.workers[index].child.pid, signal.SIGKILL)
        stack.workers[index].child.wait()
        stack.restart_worker(index)
    assert sum(waiting(stack)) == 30
    accounts.restart()
    assert len(accounts.wait(30)) == 30


def waiting(stack: Stack) -> list[float]:
    return [worker.total("aibrix_extproc_usage_waiting") for worker in stack.workers]


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as its client saw it end; without usage it failed, and might have used so much."""

    request_id: str
    ended_at: float
    usage: dict[str, int] | None
    at_most: dict[str, int]


async def ask(client: openai.AsyncOpenAI, number: int) -> Asked:
    """Whole answers and streams of many lengths; every eleventh fails at its engine."""
    fault = {"x-sim-fault": "status;code=503"} if number % 11 == 0 else {}
    tokens, words = 5 + number % 40, number % 9
    body: dict[str, Any] = {
        "model": "chat-m", "max_tokens": tokens, "messages": [{"role": "user", "content": "word " * words}],
        "extra_headers": {"x-sim-itl-ms": "2", "x-sim-tokens": str(tokens)} | fault,
    }  # fmt: skip
    most = {"prompt_tokens": 0 if fault else words + 20, "generation_tokens": 0 if fault else tokens}
    usage, request_id = None, ""
    try:
        if number % 3:
            whole = await client.chat.completions.create(**body)
            request_id, usage = whole._request_id or "", whole.usage
        else:
            stream = await client.chat.completions.create(**body, stream=True, stream_options={"include_usage": True})
            request_id = stream.response.headers["x-request-id"]
            async for chunk in stream:
                usage = chunk.usage or usage
    except openai.APIError:
        return Asked(request_id, time.monotonic(), None, most)
    assert usage is not None
    used = {"prompt_tokens": usage.prompt_tokens, "generation_tokens": usage.completion_tokens}
    return Asked(request_id, time.monotonic(), used, used)


async def test_use_03_sum_of_the_records_is_what_the_engines_counted(stack: Stack, accounts: Accounts) -> None:
    """Rules 5 and 10 of docs/usage.md: what a killed gateway may lose is known, to the token, and nothing else is."""
    before = counted(stack)
    asked: list[Asked] = []
    async with stack.async_client() as client, asyncio.TaskGroup() as tasks:

        async def crowd(numbers: range) -> None:
            for number in numbers:
                asked.append(await ask(client, number))

        for first in range(CLIENTS):
            tasks.create_task(crowd(range(first, 240, CLIENTS)))
        await until(lambda: len(asked) >= 60, "a part of the load was served")
        killed_at = time.monotonic()
        await asyncio.to_thread(stack.workers[0].child.kill)
        await asyncio.to_thread(stack.restart_worker, 0)
        back_at = time.monotonic()
    good = [one for one in asked if one.usage is not None]
    assert len(good) > 120

    def could_be_lost(one: Asked) -> bool:
        return killed_at - IN_SOCKET <= one.ended_at <= back_at + IN_SOCKET

    def settled() -> bool:
        """Whatever was not on its way to the killed gateway is there."""
        there = {one["request_id"] for one in accounts.records()}
        return all(one.request_id in there or could_be_lost(one) for one in good)

    await asyncio.to_thread(eventually, settled, lambda: f"{len(accounts.records())} records of {len(good)}")
    records = await asyncio.to_thread(settled_records, accounts)
    there = {one["request_id"] for one in records}
    assert len(there) == len(records)
    lost = [one for one in good if one.request_id not in there]
    failed = [one for one in asked if one.usage is None and could_be_lost(one)]
    assert len(gaps(records)) <= len(lost) + len(failed), "no number is missing without a reason"
    whole = totals([one for one in records if not one["estimated"]])
    for name, value in counted(stack).items():
        unpaid = value - before[name] - whole[name] - sum(one.at_most[name] for one in lost)
        assert 0 <= unpaid <= sum(one.at_most[name] for one in failed), name  # rule 5


IN_SOCKET = 3.0  # seconds that an entry is on its way for, at most


def settled_records(accounts: Accounts) -> list[Record]:
    """The records once no more come."""
    counts: list[int] = []

    def quiet() -> bool:
        counts.append(len(accounts.records()))
        return len(counts) > 20 and len(set(counts[-20:])) == 1

    eventually(quiet, "no more records come")
    return accounts.records()


def gaps(records: list[Record]) -> list[str]:
    """Numbers that are missing, of each process that placed something; those after its last record cannot be known."""
    numbers: dict[str, set[int]] = {}
    for one in records:
        issuer, _, number = one["id"].partition("-")
        numbers.setdefault(issuer, set()).add(int(number))
    return [f"{issuer}-{number}" for issuer, of in numbers.items() for number in range(1, max(of)) if number not in of]


async def test_use_03_killed_envoy_loses_what_ran_through_it_and_no_more(stack: Stack, accounts: Accounts) -> None:
    assert (await asyncio.to_thread(stack.post, PATH, CHAT)).status == 200
    await asyncio.to_thread(accounts.wait, 1)
    settled = counted(stack)
    async with stack.async_client() as client:
        headers = {"x-sim-itl-ms": "20", "x-sim-tokens": "500"}
        streams = [
            await client.chat.completions.create(**CHAT | {"max_tokens": 500}, stream=True, extra_headers=headers)
            for _ in range(4)  # kept, so that no client leaves before
        ]
        await asyncio.to_thread(stack.envoy.kill)
        for stream in streams:
            with pytest.raises(openai.APIConnectionError):
                async for _ in stream:
                    pass
    await asyncio.to_thread(
        eventually, lambda: all(stack.engine(name).stats()["running"] == 0 for name in ("e0", "e1"))
    )
    lost = {name: value - settled[name] for name, value in counted(stack).items()}
    await asyncio.to_thread(stack.start_envoy)
    await asyncio.to_thread(eventually, lambda: served(stack), "requests are served again")
    records = await asyncio.to_thread(accounts.wait, 2)
    spent = {name: value - lost[name] for name, value in counted(stack).items()}
    assert totals(records) == spent
    assert lost["prompt_tokens"] > 0  # the simulator counts the output of whole answers only


def served(stack: Stack) -> bool:
    try:
        return stack.post(PATH, CHAT).status == 200
    except OSError:
        return False  # Envoy says where it listens a moment before it does
