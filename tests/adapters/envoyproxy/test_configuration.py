"""The generated configuration: valid, equal to the reference copy, and complete where it matters."""

import json
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from envoy_data_plane.envoy.config.bootstrap.v3 import Bootstrap

from aibrix_extproc.adapters.envoyproxy.configure import command, configuration, write_configuration
from aibrix_extproc.adapters.envoyproxy.endpoints import render_endpoints
from aibrix_extproc.adapters.envoyproxy.find import find_envoy
from aibrix_extproc.adapters.envoyproxy.spec import ANSWER_FILTER, STREAM_FILTER, EnvoySpec, SocketAddress
from aibrix_extproc.core.openai.contract.headers import RESERVED_REQUEST_HEADERS
from tests.dataplane.stack import configuration_of

pytestmark = pytest.mark.slow  # importing the typed form takes most of a second

REFERENCE = Path(__file__).parents[3] / "envoy" / "envoy.yaml"
# What the reference copy writes in place of the values that differ from one installation to the next.
REFERENCE_SPEC = EnvoySpec(
    listen=SocketAddress("127.0.0.1", 8080),
    admin=SocketAddress("127.0.0.1", 9901),
    processors=(SocketAddress("127.0.0.1", 9002),),
    endpoints_directory=Path("/etc/envoy/endpoints"),
    access_log=Path("/dev/stdout"),
    answer_filter=Path("/etc/envoy/answer_filter.lua"),
    stream_filter=Path("/etc/envoy/stream_filter.lua"),
    access_log_service=True,
    stalled_reader_timeout=30,
)


def normal(document: Mapping[str, Any]) -> Any:
    """A configuration with all defaults and spellings made equal, by way of the typed form."""
    plain = json.loads(json.dumps(document))
    # The typed form misspells names with "5xx" in them, so this part is compared as it is.
    outliers = [cluster.pop("outlier_detection", None) for cluster in plain["static_resources"]["clusters"]]
    return Bootstrap.from_dict(plain).to_dict(), outliers


def test_reference_copy_says_the_same_as_the_generated_configuration() -> None:
    assert normal(yaml.safe_load(REFERENCE.read_text())) == normal(configuration(REFERENCE_SPEC))


def test_every_reserved_header_is_removed_before_routing() -> None:
    text = json.dumps(configuration(REFERENCE_SPEC))
    assert all(f'{{"remove": "{name}"}}' in text for name in RESERVED_REQUEST_HEADERS)


def test_without_an_access_log_none_is_configured(tmp_path: Path) -> None:
    spec = EnvoySpec(REFERENCE_SPEC.listen, REFERENCE_SPEC.admin, REFERENCE_SPEC.processors, tmp_path)
    assert '"access_log":' not in json.dumps(configuration(spec))


@pytest.mark.parametrize("shipped", [STREAM_FILTER, ANSWER_FILTER], ids=lambda path: path.stem)
def test_reference_copy_lies_beside_the_filters_that_we_ship(shipped: Path) -> None:
    assert REFERENCE.with_name(shipped.name).read_bytes() == shipped.read_bytes()


def test_filter_of_the_cluster_is_that_of_the_route_and_more() -> None:
    parts = (STREAM_FILTER, STREAM_FILTER.with_name("whole_answers.lua"))
    assert ANSWER_FILTER.read_bytes() == b"".join(part.read_bytes() for part in parts), "run: make reference"


def test_command_line_limits_threads_only_when_told(tmp_path: Path) -> None:
    assert "--concurrency" not in command(tmp_path, tmp_path)
    assert " --concurrency 2" in " ".join(command(tmp_path, tmp_path, concurrency=2))


@pytest.mark.envoy
def test_envoy_accepts_the_generated_configuration(tmp_path: Path) -> None:
    spec = replace(
        REFERENCE_SPEC, endpoints_directory=tmp_path, stream_filter=STREAM_FILTER, answer_filter=ANSWER_FILTER
    )
    spec.endpoints_file.write_bytes(render_endpoints(["127.0.0.1:8000", "[::1]:8000"]))
    write_configuration(spec, tmp_path / "envoy.json")
    validate(tmp_path / "envoy.json")


@pytest.mark.envoy
def test_envoy_accepts_the_reference_copy(tmp_path: Path) -> None:
    # Validation wants these files to exist, which they do only where the copy is installed.
    (tmp_path / "endpoints.json").write_bytes(render_endpoints([]))
    text = REFERENCE.read_text().replace("/etc/envoy/endpoints", str(tmp_path))
    for name in ("stream_filter.lua", "answer_filter.lua"):
        text = text.replace(f"/etc/envoy/{name}", str(REFERENCE.with_name(name)))
    (tmp_path / "envoy.yaml").write_text(text)
    validate(tmp_path / "envoy.yaml")


def validate(path: Path) -> None:
    result = subprocess.run(
        [find_envoy(), "--mode", "validate", "-c", path, "-l", "warning"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""  # no warning, such as one about a deprecated field


def test_configuration_that_data_plane_stacks_share_is_the_one_of_each() -> None:
    for port in (9002, 41234):
        spec = replace(REFERENCE_SPEC, processors=(SocketAddress("127.0.0.1", port),), access_log=Path(f"/tmp/{port}"))
        assert json.loads(configuration_of(spec)) == json.loads(json.dumps(configuration(spec)))
