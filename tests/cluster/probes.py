"""What the kubelet asks of containers."""

import aiohttp
import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc


async def serving(address: str, service: str) -> bool:
    """Whether health is SERVING over gRPC."""
    async with grpc.aio.insecure_channel(address) as channel:
        try:
            answer = await health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(service=service), timeout=1
            )
        except grpc.aio.AioRpcError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


async def answers(url: str) -> bool:
    """Whether it is a 200."""
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=1)) as session, session.get(url) as answer:
            return answer.status == 200
    except (aiohttp.ClientError, TimeoutError):
        return False
