import copy
import json
from pathlib import Path

import pytest

from aibrix_extproc.adapters.envoyproxy.configure import configuration
from aibrix_extproc.adapters.envoyproxy.spec import EnvoySpec, SocketAddress
from benchmarks.plain_envoy import without_processor


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    spec = EnvoySpec(
        listen=SocketAddress("127.0.0.1", 1),
        admin=SocketAddress("127.0.0.1", 2),
        processors=(SocketAddress("127.0.0.1", 3),),
        endpoints_directory=Path("somewhere"),
    )
    return dict(configuration(spec))


@pytest.mark.slow
def test_plain_configuration_neither_names_nor_needs_a_processor(shipped: dict[str, object]) -> None:
    text = json.dumps(without_processor(shipped))
    assert "processors" not in text
    assert "ext_proc.v3" not in text
    assert "override_host" not in text


@pytest.mark.slow
def test_plain_configuration_keeps_the_listener_and_leaves_the_shipped_one_alone(shipped: dict[str, object]) -> None:
    before = copy.deepcopy(shipped)
    plain = without_processor(shipped)
    assert shipped == before
    ours, theirs = (one["static_resources"]["listeners"][0] for one in (plain, before))  # type: ignore[index]
    assert ours["per_connection_buffer_limit_bytes"] == theirs["per_connection_buffer_limit_bytes"]
    assert plain["overload_manager"] == before["overload_manager"]
