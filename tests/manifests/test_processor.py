"""The containers: what they run is our own command line, may do no more than it must, and ends in good order."""

from collections.abc import Callable, Iterable, Iterator

import pytest

from aibrix_extproc import __version__
from aibrix_extproc.adapters.extproc.service import LIVENESS, READINESS
from aibrix_extproc.adapters.kube.lease import LEASE_VERBS
from aibrix_extproc.adapters.kube.own_slices import SLICE_VERBS
from aibrix_extproc.adapters.kube.resources import ADAPTERS, LEASES, PODS, SERVICES, SLICES, WATCHING, Resource
from aibrix_extproc.cli.certificates import CLIENT_NAMES
from aibrix_extproc.cli.flags import given_settings
from aibrix_extproc.cli.main import parser_for
from aibrix_extproc.core.fleet.kubernetes.podspec import LABELS
from aibrix_extproc.settings import Settings, Tls, build, read_environment
from tests.manifests.built import BUILDS, Thing, built, of_kind, only

pytestmark = pytest.mark.slow  # each build takes kubectl half a second


def ours(name: str) -> Iterator[Thing]:
    """Containers of our image in a build."""
    for deployment in of_kind(built(name), "Deployment"):
        for container in deployment["spec"]["template"]["spec"]["containers"]:
            if container["image"].partition(":")[0].endswith("aibrix-extproc"):
                yield container


def environment(container: Thing) -> dict[str, str]:
    return {one["name"]: one.get("value", "from elsewhere") for one in container.get("env", ())}


def settings_of(container: Thing) -> Settings:
    """What `serve` reads from its arguments and its environment; an unknown name is an error."""
    arguments = container["args"]
    by_source = given_settings(parser_for(arguments[0]).parse_args(arguments))
    return build({**by_source, "environment": read_environment(environment(container))})


@pytest.mark.parametrize("name", BUILDS)
def test_container_starts_with_arguments_and_variables_that_exist(name: str) -> None:
    containers = list(ours(name))
    assert containers or name.startswith("examples/")
    for container in containers:
        parser_for(container["args"][0]).parse_args(container["args"])
        if container["args"][0] == "serve":
            assert settings_of(container).kubernetes.enabled


@pytest.mark.parametrize("name", BUILDS)
def test_container_listens_where_its_ports_and_probes_are(name: str) -> None:
    for container in ours(name):
        if container["args"][0] == "serve":
            settings = settings_of(container)
            ports = {one["name"]: one["containerPort"] for one in container["ports"]}
            health = {} if settings.server.health_port is None else {"health": settings.server.health_port}
            assert ports == {"grpc": settings.server.port, "admin": settings.admin.port, **health}
            asked = settings.server.health_port or settings.server.port
            assert {settings.server.host, settings.admin.host} == {"::" if name == "components/ipv6" else "0.0.0.0"}
            assert container["readinessProbe"]["grpc"] == {"port": asked, "service": "readiness"}
            for probe in ("startupProbe", "livenessProbe"):
                assert container[probe]["grpc"] == {"port": asked, "service": LIVENESS}
            assert "readiness" in READINESS


@pytest.mark.parametrize("name", BUILDS)
def test_pod_is_as_confined_as_the_restricted_standard_asks(name: str) -> None:
    for deployment in of_kind(built(name), "Deployment"):
        pod = deployment["spec"]["template"]["spec"]
        for container in pod["containers"]:
            if container not in list(ours(name)):
                continue
            assert pod["securityContext"]["runAsNonRoot"] is True
            assert pod["securityContext"]["runAsUser"] == 65532
            assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert set(container["resources"]) == {"requests", "limits"}


@pytest.mark.parametrize("name", BUILDS)
def test_image_is_of_this_version(name: str) -> None:
    assert {container["image"].partition(":")[2] for container in ours(name)} <= {__version__}


@pytest.mark.parametrize("name", BUILDS)
def test_pod_has_time_to_drain(name: str) -> None:
    for deployment in of_kind(built(name), "Deployment"):
        for container in deployment["spec"]["template"]["spec"]["containers"]:
            if container in list(ours(name)) and container["args"][0] == "serve":
                server = settings_of(container).server
                grace = deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
                assert grace >= server.drain_notice_seconds + server.drain_seconds + 10


def test_processors_are_replaced_one_by_one_and_are_never_less_than_two() -> None:
    things = built("base")
    deployment = only(things, "Deployment")["spec"]
    assert deployment["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    assert "replicas" not in deployment
    assert only(things, "HorizontalPodAutoscaler")["spec"]["minReplicas"] == 2
    assert only(things, "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1


Rule = tuple[str, str, tuple[str, ...], str]


def rules(role: Thing) -> set[Rule]:
    """(group, resource, names, verb) for each thing that is allowed."""
    return {
        (group, resource, tuple(rule.get("resourceNames", ())), verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def allowed(resource: Resource, verbs: Iterable[str], *names: str) -> set[Rule]:
    return {(resource.group, resource.plural, names, verb) for verb in verbs}


def test_service_account_may_do_what_the_watches_do_and_nothing_else() -> None:
    role = only(built("base"), "ClusterRole", "aibrix-extproc-fleet")
    assert rules(role) == allowed(PODS, WATCHING) | allowed(ADAPTERS, WATCHING)


def test_service_account_may_write_what_is_published_in_its_own_namespace_and_nothing_else() -> None:
    things = built("base")
    (container,) = ours("base")
    settings = settings_of(container).kubernetes
    lease_verbs = set(LEASE_VERBS) - {"create"}  # which cannot be allowed by name
    assert rules(only(things, "Role", "aibrix-extproc-publish")) == (
        allowed(SLICES, SLICE_VERBS)
        | allowed(LEASES, ["create"])
        | allowed(LEASES, lease_verbs, settings.lease_name)
        | allowed(SERVICES, ["get"], str(settings.publish_service))
    )
    assert [one["metadata"]["name"] for one in of_kind(things, "Role")] == ["aibrix-extproc-publish"]
    assert of_kind(things, "ClusterRoleBinding") == []


def test_published_service_has_no_selector_and_the_port_that_slices_name() -> None:
    (container,) = ours("base")
    settings = settings_of(container).kubernetes
    service = only(built("base"), "Service", str(settings.publish_service))["spec"]
    assert "selector" not in service
    assert [one["name"] for one in service["ports"]] == [settings.publish_port_name]


def test_one_model_writes_nothing() -> None:
    things = built("components/one-model")
    assert of_kind(things, "Role") == []
    (container,) = [one for one in ours("components/one-model") if one["args"][0] == "serve"]
    assert settings_of(container).kubernetes.publish_service is None


def test_components_switch_on_what_they_are_for() -> None:
    wanted: dict[str, Callable[[Settings], bool]] = {
        "metering": lambda settings: settings.metering.enabled,
        "keys": lambda settings: str(settings.access.key_file) == "/etc/aibrix-extproc/keys/keys.yaml",
        "mutual-tls": lambda settings: (
            settings.server.tls is Tls.FILES
            and settings.server.tls_client_ca == settings.server.tls_cert
            and settings.server.tls_client_names == CLIENT_NAMES
        ),
        "all-namespaces": lambda settings: settings.kubernetes.namespaces == ("*",),
    }
    for name, switched_on in wanted.items():
        (container,) = [one for one in ours(f"components/{name}") if one["args"][0] == "serve"]
        assert switched_on(settings_of(container)), name


@pytest.mark.parametrize("name", ["components/simulators", "overlays/try"])
def test_engine_has_labels_that_we_read(name: str) -> None:
    known = set(LABELS)
    for deployment in of_kind(built(name), "Deployment"):
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        read = {label for label in labels if "aibrix.ai" in label}
        assert read <= known
        assert read or deployment["metadata"]["name"] == "aibrix-extproc"
