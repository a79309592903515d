"""grpc.health.v1 on grpc.aio."""

from typing import Any

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest

from aibrix_extproc.adapters.extproc.grpcio_tls import Guard
from aibrix_extproc.adapters.extproc.health import Health, TooManyWatchers, answer

_Context = Any  # grpc.aio.ServicerContext; grpcio ships no types


def health_handlers(health: Health, guard: Guard | None = None) -> Any:
    """Check and Watch, for `add_generic_rpc_handlers`."""

    async def check(request: HealthCheckRequest, context: _Context) -> bytes:
        if guard is not None:
            await guard.check(context)
        status = health.status(request.service)
        if status is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
        assert status is not None
        return answer(status)

    async def watch(request: HealthCheckRequest, context: _Context) -> None:
        if guard is not None:
            await guard.check(context)
        try:
            async for status in health.watch(request.service):
                await context.write(status)
        except TooManyWatchers:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many watchers")

    methods = {
        "Check": grpc.unary_unary_rpc_method_handler(check, request_deserializer=HealthCheckRequest.FromString),
        "Watch": grpc.unary_stream_rpc_method_handler(watch, request_deserializer=HealthCheckRequest.FromString),
    }
    return grpc.method_handlers_generic_handler("grpc.health.v1.Health", methods)
