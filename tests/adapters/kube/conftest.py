"""The clusters that discovery is tested on: the double everywhere, a real API server where one can be had."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.adapters.kube.apiserver import ApiServer, RealCluster, api_server, binaries
from tests.adapters.kube.rig import Cluster, DoubleCluster
from tests.fakes.kube_api import KubeApiDouble

MISSING = (
    "no etcd and kube-apiserver: `make kube-tools` builds them where Go is installed, then set KUBEBUILDER_ASSETS"
    " to the folder that it names"
)


@pytest.fixture
async def double() -> AsyncIterator[DoubleCluster]:
    async with KubeApiDouble() as api:
        yield DoubleCluster(api)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    programs = binaries()
    if programs is None:
        pytest.fail(MISSING)  # who asks for the marker wants it tested, not skipped
    with api_server(programs, Path(tmp_path_factory.mktemp("apiserver"))) as running:
        yield running


@pytest.fixture
async def real(server: ApiServer) -> AsyncIterator[RealCluster]:
    async with aiohttp.ClientSession() as session:
        cluster = RealCluster(server, session)
        await cluster.prepare()
        yield cluster


@pytest.fixture(params=["double", pytest.param("real", marks=pytest.mark.kubernetes)])
def cluster(request: pytest.FixtureRequest) -> Cluster:
    """Each test that asks for this runs on both."""
    found: Cluster = request.getfixturevalue(request.param)
    return found
