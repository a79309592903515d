"""grpc.health.v1 on both transports: names, changes that are watched, the port of its own, the end."""

import asyncio
from contextlib import AsyncExitStack

import grpc
import grpc.aio

from aibrix_extproc.adapters.extproc.health import MAX_WATCHERS
from aibrix_extproc.adapters.extproc.service import LIVENESS, READINESS
from tests.adapters.extproc.transports import (
    NOT_SERVING,
    SERVICE_UNKNOWN,
    SERVING,
    Transport,
    check,
    each_transport,
    plain,
    refused,
    running,
    watch,
)


@each_transport
async def test_health_port_tells_readiness_from_liveness_and_knows_no_other_name(transport: Transport) -> None:
    async with running(transport) as it, plain(it.health_port) as channel:
        assert await check(channel, LIVENESS) == SERVING
        assert {await check(channel, name) for name in READINESS} == {NOT_SERVING}
        await it.server.set_ready(True)
        assert {await check(channel, name) for name in READINESS} == {SERVING}
        assert await refused(check(channel, "nobody")) is grpc.StatusCode.NOT_FOUND


@each_transport
async def test_health_port_serves_nothing_else(transport: Transport) -> None:
    async with running(transport) as it, plain(it.health_port) as channel:
        process = channel.stream_stream("/envoy.service.ext_proc.v3.ExternalProcessor/Process")()
        assert await process.code() is grpc.StatusCode.UNIMPLEMENTED


@each_transport
async def test_watch_tells_the_status_and_each_change_of_it(transport: Transport) -> None:
    async with running(transport) as it, plain(it.port) as channel, plain(it.health_port) as other:
        watches = [watch(channel, "readiness"), watch(other, "readiness")]
        assert [await one.read() for one in watches] == [NOT_SERVING, NOT_SERVING]
        for ready, status in ((True, SERVING), (True, None), (False, NOT_SERVING)):
            await it.server.set_ready(ready)
            if status is not None:
                assert [await one.read() for one in watches] == [status, status]
        assert it.server.running == 0  # no exchange


@each_transport
async def test_watch_of_an_unknown_name_says_so_and_stays(transport: Transport) -> None:
    async with running(transport) as it, plain(it.port) as channel:
        call = watch(channel, "nobody")
        assert await call.read() == SERVICE_UNKNOWN
        await it.server.set_ready(True)
        assert not call.done()


@each_transport
async def test_drain_is_told_to_watchers_and_ends_their_calls_without_waiting_for_them(transport: Transport) -> None:
    async with running(transport) as it, plain(it.port) as channel, plain(it.health_port) as other:
        await it.server.set_ready(True)
        watches = [watch(channel, "readiness"), watch(other, "readiness"), watch(channel, "liveness")]
        assert [await one.read() for one in watches] == [SERVING] * 3
        async with asyncio.timeout(60):
            await it.server.drain(notice_seconds=0, drain_seconds=600)
            assert [await one.read() for one in watches] == [NOT_SERVING, NOT_SERVING, grpc.aio.EOF]
            assert [await one.code() for one in watches] == [grpc.StatusCode.OK] * 3


@each_transport
async def test_number_of_watchers_is_bounded_and_room_comes_back(transport: Transport) -> None:
    async with running(transport) as it, plain(it.port) as channel, AsyncExitStack() as ends:
        watches = [watch(channel, "liveness") for _ in range(MAX_WATCHERS)]
        assert {await one.read() for one in watches} == {SERVING}
        assert await refused(watch(channel, "liveness").read()) is grpc.StatusCode.RESOURCE_EXHAUSTED
        watches[0].cancel()
        async with asyncio.timeout(60):
            while True:
                again = watch(channel, "liveness")
                ends.callback(again.cancel)
                try:
                    assert await again.read() == SERVING
                    break
                except grpc.aio.AioRpcError:  # the cancellation is still on its way
                    continue
