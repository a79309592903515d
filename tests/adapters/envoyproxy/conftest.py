"""A real Envoy that the tests of a module share."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.adapters.envoyproxy.rig import (
    LIMIT,
    RunningEnvoy,
    ScriptedProcessor,
    known,
    reaches_processor,
    running_envoy,
)
from tests.waiting import until


@pytest_asyncio.fixture(loop_scope="module")
async def processor() -> AsyncIterator[ScriptedProcessor]:
    """For tests with an Envoy of their own."""
    scripted = ScriptedProcessor()
    await scripted.start()
    yield scripted
    await scripted.kill()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningEnvoy]:
    scripted = ScriptedProcessor()
    await scripted.start()
    folder = tmp_path_factory.mktemp("envoy")
    async with running_envoy(folder, scripted, max_body_bytes=LIMIT, message_timeout=60.0) as running:
        yield running
    await scripted.kill()


@pytest_asyncio.fixture(loop_scope="module")
async def envoy(shared: RunningEnvoy) -> RunningEnvoy:
    """An Envoy as after its start: it knows no engine, and its processor is healthy and places nothing."""
    await shared.processor.reset()
    await known(shared)
    await shared.wait_for_processors(1)
    await until(lambda: reaches_processor(shared), "Envoy's threads see the processor")
    shared.processor.messages.clear()
    return shared
