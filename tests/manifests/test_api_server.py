"""A real API server takes what we ship: its defaults, its own checks, and the rules in CEL that schemas leave out."""

import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import yaml

from tests.adapters.kube.apiserver import ADMIN, ApiServer, api_server, binaries
from tests.adapters.kube.conftest import MISSING
from tests.manifests.built import BUILDS, KUBECTL, Thing, built, of_kind
from tests.manifests.schemas import ALWAYS, NEWEST, OLDEST
from tests.manifests.vendor import SOURCES, Definitions, fetched

pytestmark = pytest.mark.kubernetes


class Cluster:
    """An API server with the definitions of one generation of Envoy Gateway."""

    def __init__(self, server: ApiServer, sets: Sequence[str]) -> None:
        self._server = server
        for source in SOURCES:
            if isinstance(source, Definitions) and source.name in sets:
                folder = fetched(source.module, source.version) / source.folder
                wanted = [path for path in sorted(folder.glob("*.yaml")) if self._defines(path, source.kinds)]
                self.done("apply", "--server-side", *(f"--filename={path}" for path in wanted))
        self.done("wait", "--for=condition=Established", "customresourcedefinitions", "--all", "--timeout=60s")

    def _defines(self, path: Path, kinds: Sequence[str]) -> bool:
        text = path.read_text(encoding="utf-8")
        return any(f"    kind: {kind}\n" in text for kind in kinds)

    def kubectl(self, *arguments: str, things: Sequence[Thing] = ()) -> subprocess.CompletedProcess[str]:
        where = [f"--server={self._server.url}", f"--token={ADMIN}", "--insecure-skip-tls-verify", "--kubeconfig="]
        text = yaml.safe_dump_all(things) if things else None
        return subprocess.run([KUBECTL, *where, *arguments], input=text, capture_output=True, text=True)

    def done(self, *arguments: str, things: Sequence[Thing] = ()) -> None:
        ran = self.kubectl(*arguments, things=things)
        assert ran.returncode == 0, ran.stderr

    def refusal(self, things: Sequence[Thing]) -> str:
        """What is said against them, "" if nothing; nothing is changed."""
        ran = self.kubectl("apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-", things=things)
        assert (ran.returncode == 0) == (not ran.stderr), ran.stderr
        return ran.stderr


@pytest.fixture(scope="module", params=[NEWEST, OLDEST], ids=["newest", "oldest"])
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The base is applied: the others change it, as overlays do for those who began with it."""
    programs = binaries()
    if programs is None:
        pytest.fail(MISSING)
    with api_server(programs, tmp_path_factory.mktemp("apiserver")) as server:
        found = Cluster(server, (*request.param, *ALWAYS))
        found.done("apply", "--server-side", "-f", "-", things=built("base"))
        yield found


@pytest.mark.parametrize("build", BUILDS)
def test_objects_built_are_taken_by_the_api_server(cluster: Cluster, build: str) -> None:
    assert cluster.refusal(built(build)) == ""


def test_object_that_breaks_a_rule_in_cel_is_refused(cluster: Cluster) -> None:
    """So that the test above can fail for it."""
    (policy,) = of_kind(built("base"), "EnvoyExtensionPolicy")
    spec = policy["spec"]["extProc"][0]
    broken = {**spec, "processingMode": {**spec["processingMode"], "request": {"body": "FullDuplexStreamed"}}}
    changed = {**policy, "spec": {**policy["spec"], "extProc": [broken]}}
    assert "FailOpen must be false" in cluster.refusal([changed])
