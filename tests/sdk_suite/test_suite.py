"""What openai-python tests of the operations that we serve passes through Envoy and the gateway as it does directly."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.dataplane.children import Child
from tests.dataplane.engines import EngineSpec
from tests.dataplane.stack import METERED, Stack, running
from tests.sdk_suite import suite
from tests.sdk_suite.install import PYTHON, installed_version

pytestmark = [pytest.mark.sdk_suite, pytest.mark.envoy]
ENGINE = Path(__file__).with_name("engine.py")
Outcomes = Mapping[str, str]

# The gateway refuses to delete models (403; 404 for an unknown one): a mock server deletes whatever it is told.
REFUSED = r"\.test_models\.\w+::test_(method|raw_response|streaming_response)_delete\["
# Operations in the same modules that engines do not have.
NOT_SERVED = (
    r"\.chat\.test_completions\.\w+::test_\w+_(retrieve|update|list|delete)(_with_all_params)?\["
    r"|\.test_responses\.\w+::test_\w+_compact"
)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stack, int]]:
    """The whole stack before one engine that answers with the SDK's own types, and that engine's port."""
    if not installed_version():
        pytest.skip("the suite is not installed: run make test-sdk-suite")
    directory = tmp_path_factory.mktemp("engine")
    models = suite.models()
    engine = Child("engine", [str(PYTHON), str(ENGINE), *models], directory)
    port = int(engine.wait_output("listening on ").rpartition(" ")[2])
    stack = Stack(tmp_path_factory.mktemp("stack"), (), envoy_options=METERED, serve_arguments=("--metering",))
    try:
        with running(stack) as started:
            started.adopt_engine(EngineSpec("suite", tuple(models)), port)
            started.write_fleet()
            started.wait_models(set(models))
            yield started, port
    finally:
        engine.kill()


def test_nothing_that_we_serve_is_lost_on_the_way(
    gateway: tuple[Stack, int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stack, port = gateway
    made = stack.post("/v1/responses", {"model": "gpt-6-astra", "input": "hello"}).json()["id"]
    (tmp_path / "direct").mkdir()
    (tmp_path / "through").mkdir()
    direct = _served(suite.run(f"http://127.0.0.1:{port}/v1", made, tmp_path / "direct"))
    through = _served(suite.run(stack.base_url, made, tmp_path / "through"))
    good = {name for name, outcome in direct.items() if outcome == "passed"}
    lost = {name: through.get(name, "not run") for name in good if through.get(name) != "passed"}
    explained = {name for name in lost if re.search(REFUSED, name)}
    with capsys.disabled():
        figures = {"sdk": installed_version(), "direct": len(good), "through": len(good) - len(lost)}
        print("\n" + json.dumps(figures | {"refused": len(explained)}))  # noqa: T201 (the figures of the run)
    bad = {name: outcome for name, outcome in direct.items() if outcome != "passed"}
    assert not bad, "the engine's own answers are not what the SDK wants"
    assert len(good) > 300
    assert {name: outcome for name, outcome in lost.items() if name not in explained} == {}
    assert all(re.search("40[34]", lost[name]) for name in explained), lost


def _served(outcomes: Outcomes) -> dict[str, str]:
    return {name: outcome for name, outcome in outcomes.items() if not re.search(NOT_SERVED, name)}
