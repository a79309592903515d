"""A running simulator and a bare client for it."""

from collections.abc import AsyncIterator

import aiohttp
import pytest

from aibrix_extproc.simulator.options import SimulatorOptions
from aibrix_extproc.simulator.server import Simulator


@pytest.fixture
async def sim() -> AsyncIterator[Simulator]:
    options = SimulatorOptions(models=("sim-model", "alias-a", "alias-b"), max_model_len=256)
    async with Simulator(options) as simulator:
        yield simulator


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session:
        yield session
