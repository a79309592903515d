"""The containers: what they run is our own command line, may do no more than it must, and ends in good order."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from aibrix_extproc import __version__
from aibrix_extproc.adapters.extproc.service import LIVENESS, READINESS
from aibrix_extproc.adapters.kube.lease import LEASE_VERBS
from aibrix_extproc.adapters.kube.own_slices import SLICE_VERBS
from aibrix_extproc.adapters.kube.resources import ADAPTERS, LEASES, PODS, SECRETS, SERVICES, SLICES, WATCHING, Resource
from aibrix_extproc.adapters.kube.secrets import SECRET_VERBS
from aibrix_extproc.cli.certificates import CLIENT_NAMES
from aibrix_extproc.cli.flags import given_settings
from aibrix_extproc.cli.main import parser_for
from aibrix_extproc.core.fleet.kubernetes.podspec import LABELS
from aibrix_extproc.settings import Settings, Tls, build, read_environment
from aibrix_extproc.settings.metadata import Role
from tests.manifests.built import BUILDS, Thing, built, of_kind, only

pytestmark = pytest.mark.slow  # each build takes kubectl half a second
METADATA = ("components/metadata", "components/metadata-volume")


def pods(name: str) -> Iterator[Thing]:
    """What Deployments and Jobs of a build say of their pods."""
    for kind in ("Deployment", "Job"):
        yield from (one["spec"]["template"]["spec"] for one in of_kind(built(name), kind))


def ours(name: str) -> Iterator[Thing]:
    """Containers of our image in a build."""
    for pod in pods(name):
        for container in pod["containers"]:
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
def test_metadata_service_listens_where_its_ports_and_probes_are(name: str) -> None:
    for container in ours(name):
        if container["args"][0] == "metadata":
            settings = settings_of(container)
            ports = {one["name"]: one["containerPort"] for one in container["ports"]}
            api = {} if settings.metadata.role is Role.WORKER else {"api": settings.metadata.port}
            assert ports == {"admin": settings.admin.port, **api}
            assert (settings.metadata.host, settings.admin.host) == ("0.0.0.0", "0.0.0.0")
            asked = {
                probe: container[probe]["httpGet"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")
            }
            assert asked == {
                "startupProbe": {"path": "/livez", "port": "admin"},
                "readinessProbe": {"path": "/readyz", "port": "admin"},
                "livenessProbe": {"path": "/livez", "port": "admin"},
            }


@pytest.mark.parametrize("name", [*METADATA, "overlays/try", "overlays/production"])
def test_processors_and_metadata_services_believe_each_other(name: str) -> None:
    """They share one Secret, the processors hand over, and workers know the way through the Envoys' Service."""
    things = built(name)
    assert {settings_of(one).metering.note_keys for one in talking(name)} == {
        Path("/etc/aibrix-extproc/note-keys/keys")
    }
    for deployment in of_kind(things, "Deployment"):
        if deployment["spec"]["template"]["spec"]["containers"][0] in list(talking(name)):
            pod = deployment["spec"]["template"]["spec"]
            (mount,) = [one for one in pod["containers"][0]["volumeMounts"] if one["name"] == "note-keys"]
            (volume,) = [one for one in pod["volumes"] if one["name"] == "note-keys"]
            assert (mount["mountPath"], volume["secret"]["secretName"]) == (
                "/etc/aibrix-extproc/note-keys", "aibrix-extproc-note-keys",
            )  # fmt: skip
    assert [settings_of(one).metadata.enabled for one in talking(name) if one["args"][0] == "serve"] == [True]
    working = [settings_of(one).metadata for one in talking(name) if one["args"][0] == "metadata"]
    service = only(things, "EnvoyProxy")["spec"]["provider"]["kubernetes"]["envoyService"]["name"]
    with_tls = name == "overlays/production"
    assert {one.gateway_url for one in working if one.role is not Role.API} == {
        "https://llm.example.com" if with_tls else f"http://{service}.envoy-gateway-system.svc"
    }


def talking(name: str) -> Iterator[Thing]:
    return (one for one in ours(name) if one["args"][0] in ("serve", "metadata"))


def test_state_on_a_volume_is_that_of_one_process_at_a_time() -> None:
    things = built("components/metadata-volume")
    deployment = only(things, "Deployment", "aibrix-extproc-metadata")["spec"]
    assert (deployment["replicas"], deployment["strategy"]) == (1, {"type": "Recreate"})
    (container,) = deployment["template"]["spec"]["containers"]
    settings = settings_of(container).metadata
    assert (settings.role, settings.database, settings.blobs) == (Role.ALL, None, None)
    (mount,) = [one for one in container["volumeMounts"] if one["name"] == "data"]
    assert (mount["mountPath"], mount.get("readOnly")) == (str(settings.data_dir), None)


def test_state_in_a_database_is_that_of_several_processes_of_each_role() -> None:
    things = built("components/metadata")
    roles = {}
    for name in ("aibrix-extproc-metadata", "aibrix-extproc-metadata-worker"):
        deployment = only(things, "Deployment", name)["spec"]
        (container,) = deployment["template"]["spec"]["containers"]
        roles[settings_of(container).metadata.role] = deployment["replicas"]
        hidden = {one["name"]: one["valueFrom"]["secretKeyRef"] for one in container["env"] if "valueFrom" in one}
        assert hidden == {
            f"AIBRIX_EXTPROC_METADATA__{key.upper()}": {"name": "aibrix-extproc-metadata", "key": key}
            for key in ("database", "blobs")
        }
        assert [one["name"] for one in container["volumeMounts"]] == ["note-keys"]
    assert roles == {Role.API: 2, Role.WORKER: 2}
    assert only(things, "PodDisruptionBudget", "aibrix-extproc-metadata")["spec"]["maxUnavailable"] == 1


@pytest.mark.parametrize("name", METADATA)
def test_metadata_service_is_let_go_of_before_it_ends(name: str) -> None:
    """Envoy does not try again, so it must know first; then aiohttp gives those that run a minute."""
    deployment = only(built(name), "Deployment", "aibrix-extproc-metadata")
    pod = deployment["spec"]["template"]["spec"]
    wait = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert wait >= 2
    assert pod["terminationGracePeriodSeconds"] >= wait + 60 + 10


@pytest.mark.parametrize("name", BUILDS)
def test_pod_is_as_confined_as_the_restricted_standard_asks(name: str) -> None:
    for pod in pods(name):
        for container in pod["containers"]:
            if container["name"] == "vllm":
                continue
            assert pod["securityContext"]["runAsNonRoot"] is True
            assert pod["securityContext"]["runAsUser"] == 65532
            assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
            assert pod.get("automountServiceAccountToken", True) is (
                container["args"][0] in ("serve", "picker", "metadata", "keys")
            )
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


@pytest.mark.parametrize("name", ["components/note-secret", "overlays/try"])
def test_secret_that_pods_wait_for_is_made_by_an_account_that_may_do_nothing_else(name: str) -> None:
    things = built(name)
    job = only(things, "Job", "aibrix-extproc-note-secret")
    pod = job["spec"]["template"]["spec"]
    options = parser_for("keys").parse_args(pod["containers"][0]["args"])
    assert (options.secret, options.namespace) == ("aibrix-extproc-note-keys", None)  # that of the pod
    assert 0 < job["spec"]["ttlSecondsAfterFinished"] <= 60
    account = pod["serviceAccountName"]
    assert rules(only(things, "Role", account)) == allowed(SECRETS, SECRET_VERBS)
    bindings = [
        one["metadata"]["name"]
        for kind in ("RoleBinding", "ClusterRoleBinding")
        for one in of_kind(things, kind)
        if account in [subject["name"] for subject in one["subjects"]]
    ]
    assert bindings == [account]
    assert [one for one in pods(name) if one.get("serviceAccountName") == account] == [pod]


def test_production_leaves_the_secret_to_its_operator() -> None:
    assert of_kind(built("overlays/production"), "Job") == []


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
        "sharing": lambda settings: settings.routing.share,
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
        assert read or deployment["metadata"]["name"].startswith("aibrix-extproc")
