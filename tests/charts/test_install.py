"""On a real API server `helm install`, `kubectl apply -f install.yaml` and `kubectl apply -k` give the same objects."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from charts.builds import MANIFESTS
from charts.release import IMAGE, install_files
from charts.write import CHARTS
from tests.adapters.kube.apiserver import ADMIN, ApiServer, api_server, binaries
from tests.adapters.kube.conftest import MISSING
from tests.charts.helm import NAMESPACE, by_key, helm
from tests.manifests.schemas import ALWAYS, NEWEST
from tests.manifests.test_api_server import Cluster

pytestmark = pytest.mark.kubernetes

# What the API server, kubectl and Helm each write of themselves.
_OF_THE_SERVER: Final = ("uid", "resourceVersion", "creationTimestamp", "generation", "managedFields", "annotations")
_OF_HELM: Final = ("app.kubernetes.io/managed-by",)
CHART: Final = CHARTS / "aibrix-extproc"
Objects = Mapping[tuple[str, str, str], Any]


class Installed:
    """A cluster, and what is in it of ours."""

    def __init__(self, cluster: Cluster, server: ApiServer, folder: Path) -> None:
        self.cluster = cluster
        self._folder = folder
        self._kubeconfig = folder / "kubeconfig"
        self._kubeconfig.write_text(yaml.safe_dump({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": server.url, "insecure-skip-tls-verify": True}}],
            "users": [{"name": "u", "user": {"token": ADMIN}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        }))  # fmt: skip

    def helm(self, *arguments: str | Path) -> None:
        options = ("--kubeconfig", self._kubeconfig, "--namespace", NAMESPACE)
        ran = helm(*arguments, *options, folder=self._folder)
        assert ran.returncode == 0, ran.stderr
        self.let_go()

    def let_go(self) -> None:
        """Let volumes that are being deleted go, as Kubernetes' controller does once no pod has them."""
        ending = "jsonpath={.items[?(@.metadata.deletionTimestamp)].metadata.name}"
        names = self.cluster.kubectl("get", "pvc", "--namespace", NAMESPACE, f"--output={ending}").stdout.split()
        for name in names:
            free = '--patch={"metadata":{"finalizers":null}}'
            self.cluster.done("patch", "pvc", name, "--namespace", NAMESPACE, "--type=merge", free)

    def objects(self, wanted: Objects) -> Objects:
        """The living objects of these keys; those that are not there are left out."""
        found = []
        for kind, namespace, name in wanted:
            where = ("--namespace", namespace) if namespace else ()
            ran = self.cluster.kubectl("get", kind, name, *where, "--output=json", "--ignore-not-found")
            assert ran.returncode == 0, ran.stderr
            if ran.stdout.strip():
                found.append(_bare(json.loads(ran.stdout)))
        return by_key(found)

    def remove(self, wanted: Objects) -> None:
        """Delete them; a namespace stays, for nothing here would end it."""
        for kind, namespace, name in wanted:
            if kind != "Namespace":
                where = ("--namespace", namespace) if namespace else ()
                self.cluster.done("delete", kind, name, *where, "--ignore-not-found", "--wait=false")
        self.let_go()
        assert {one for one in self.objects(wanted) if one[0] != "Namespace"} == set()


def _bare(thing: dict[str, Any]) -> dict[str, Any]:
    """An object without what the server and the tools write of themselves."""
    metadata = {name: value for name, value in thing["metadata"].items() if name not in _OF_THE_SERVER}
    labels = {name: value for name, value in metadata.get("labels", {}).items() if name not in _OF_HELM}
    bare = {name: value for name, value in thing.items() if name != "status"}
    bare["metadata"] = {**metadata, "labels": labels}
    if thing["kind"] == "Service":  # an address of the cluster's choice
        bare["spec"] = {name: value for name, value in thing["spec"].items() if not name.startswith("clusterIP")}
    if thing["kind"] == "Job":  # the server selects its pods by an id, which it writes on them, too
        template = {name: value for name, value in thing["spec"]["template"].items() if name != "metadata"}
        bare["spec"] = {**thing["spec"], "selector": None, "template": template}
    return bare


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    programs = binaries()
    if programs is None:
        pytest.fail(MISSING)
    folder = tmp_path_factory.mktemp("apiserver")
    with api_server(programs, folder) as server:
        found = Installed(Cluster(server, (*NEWEST, *ALWAYS)), server, folder)
        found.cluster.done("create", "namespace", NAMESPACE)
        yield found


@pytest.mark.parametrize("overlay", ["try", "production"])
def test_three_ways_to_install_give_the_same_objects(installed: Installed, overlay: str) -> None:
    text = install_files(IMAGE)[f"install-{overlay}.yaml"]
    wanted = by_key([thing for thing in yaml.safe_load_all(text) if thing])
    installed.cluster.done("apply", "-f", "-", things=list(yaml.safe_load_all(text)))
    by_file = installed.objects(wanted)
    installed.remove(wanted)
    installed.cluster.done("apply", "-k", str(MANIFESTS / "overlays" / overlay))
    by_folder = installed.objects(wanted)
    installed.remove(wanted)
    installed.helm("install", "gateway", CHART, "--values", CHART / f"values-{overlay}.yaml")
    by_helm = installed.objects(wanted)
    installed.helm("uninstall", "gateway")
    assert set(by_file) == set(wanted)
    assert by_file == by_folder == by_helm
    assert {one for one in installed.objects(wanted) if one[0] != "Namespace"} == set()


def test_upgrade_turns_one_overlay_into_the_other_and_uninstall_leaves_nothing(installed: Installed) -> None:
    both = {
        name: by_key(list(yaml.safe_load_all(install_files(IMAGE)[f"install-{name}.yaml"])))
        for name in ("try", "production")
    }
    everything: Objects = {**both["try"], **both["production"]}
    installed.helm("install", "gateway", CHART, "--values", CHART / "values-try.yaml", "--set", "namespaces={default}")
    installed.helm("upgrade", "gateway", CHART, "--values", CHART / "values-production.yaml")
    assert set(installed.objects(everything)) == set(both["production"])
    gone = installed.cluster.kubectl("get", "rolebinding", "aibrix-extproc-fleet", "--namespace=default")
    assert "NotFound" in gone.stderr
    installed.helm("rollback", "gateway", "1")
    assert set(installed.objects(everything)) == set(both["try"])
    installed.helm("uninstall", "gateway")
    assert {one for one in installed.objects(everything) if one[0] != "Namespace"} == set()
    left = installed.cluster.kubectl("get", "secrets,configmaps", "--namespace", NAMESPACE, "--output=name")
    assert [line for line in left.stdout.split() if "kube-root-ca" not in line] == []
