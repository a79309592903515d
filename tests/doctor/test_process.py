"""Where a deployed process is told its settings: flags of both commands, variables, ConfigMaps."""

from typing import Any

import pytest

from aibrix_extproc.cli.main import parser_for
from aibrix_extproc.cli.picker import by_source
from aibrix_extproc.doctor.finding import Severity
from aibrix_extproc.doctor.objects import Cluster, thing_of
from aibrix_extproc.doctor.process import PICKER_DEFAULTS, PICKER_FLAGS, Process, process_of
from aibrix_extproc.settings import build
from tests.doctor.test_doctor import changed, examined

CONFIG = {
    "kind": "ConfigMap",
    "metadata": {"name": "told", "namespace": "llm"},
    "data": {"AIBRIX_EXTPROC_SERVER__HOST": "10.0.0.9", "port": "9999"},
}
FILES = {("llm", "told", "settings.yaml"): {"server": {"host": "127.0.0.1"}, "kubernetes": {"namespaces": ["a", "b"]}}}


def process(command: str = "serve", *args: str, volumes: Any = (), **container: Any) -> Process:
    one = {"image": "aibrix-extproc:1", "args": [command, *args], **container}
    deployment = thing_of({
        "kind": "Deployment",
        "metadata": {"name": "d", "namespace": "llm"},
        "spec": {"template": {"spec": {"containers": [{"image": "side-car"}, one], "volumes": list(volumes)}}},
    })  # fmt: skip
    config = thing_of(CONFIG)
    assert deployment is not None
    assert config is not None
    return process_of(Cluster((deployment, config), live=False, files=FILES), deployment)


def host(found: Process) -> str | None:
    return found.setting("server", "host", "--host")


HOST = "AIBRIX_EXTPROC_SERVER__HOST"
MOUNT = {"name": "v", "mountPath": "/etc/told"}
VOLUME = {"name": "v", "configMap": {"name": "told"}}


def test_flag_comes_before_variable_and_variable_before_file() -> None:
    file = ("--config", "/etc/told/settings.yaml")
    of_file: Any = {"volumeMounts": [MOUNT], "volumes": [VOLUME]}
    of_variable = of_file | {"env": [{"name": HOST, "value": "10.0.0.1"}]}
    assert host(process("serve", *file, **of_file)) == "127.0.0.1"
    assert host(process("serve", *file, **of_variable)) == "10.0.0.1"
    assert host(process("serve", *file, "--host=10.0.0.2", **of_variable)) == "10.0.0.2"
    assert process("serve", *file, **of_file).setting("kubernetes", "namespaces", "--namespace") == "a,b"


@pytest.mark.parametrize(
    ("mount", "volume", "path"),
    [
        (MOUNT, VOLUME, "/etc/told/settings.yaml"),
        (MOUNT | {"mountPath": "/etc/told/"}, VOLUME, "/etc/told/settings.yaml"),
        (MOUNT | {"mountPath": "/s.yaml", "subPath": "settings.yaml"}, VOLUME, "/s.yaml"),
        (MOUNT, {"name": "v", "configMap": {"name": "told", "items": [{"key": "settings.yaml", "path": "s"}]}},
         "/etc/told/s"),
    ],
    ids=["folder", "folder-with-a-slash", "sub-path", "item"],
)  # fmt: skip
def test_settings_file_is_found_however_it_is_mounted(mount: Any, volume: Any, path: str) -> None:
    found = process("serve", f"--config={path}", volumeMounts=[mount], volumes=[volume])
    assert (host(found), found.unseen) == ("127.0.0.1", ())


def test_variables_of_a_config_map_count_and_those_of_the_container_more() -> None:
    from_it = [{"configMapRef": {"name": "told"}}]
    assert host(process(envFrom=from_it)) == "10.0.0.9"
    assert host(process(envFrom=from_it, env=[{"name": HOST, "value": "10.0.0.1"}])) == "10.0.0.1"
    assert host(process(envFrom=[{**from_it[0], "prefix": "X_"}])) is None
    one = {"name": "AIBRIX_EXTPROC_SERVER__PORT", "valueFrom": {"configMapKeyRef": {"name": "told", "key": "port"}}}
    assert process(env=[one]).setting("server", "port", "--port") == "9999"


@pytest.mark.parametrize(
    ("args", "container", "unseen"),
    [
        ((), {"envFrom": [{"secretRef": {"name": "s"}}]}, ("the Secret s",)),
        ((), {"envFrom": [{"configMapRef": {"name": "other"}}]}, ("the ConfigMap other",)),
        (("--config", "/a.yaml"), {}, ("the file /a.yaml",)),
        ((), {}, ()),
    ],
)
def test_place_that_cannot_be_read_is_told(args: Any, container: Any, unseen: Any) -> None:
    assert process("serve", *args, **container).unseen == unseen


def test_picker_is_read_by_its_own_flags_and_defaults() -> None:
    told = {"kubernetes.inference_pool": "p", "kubernetes.namespaces": "n"}
    for number, (one, flag) in enumerate(PICKER_FLAGS.items()):
        value = told.get(".".join(one), str(9100 + number))
        found = process("picker", flag, value)
        assert found.setting(*one, "--no-such") == value
        settings = build(by_source(parser_for("picker").parse_args(["picker", flag, value])))
        deployed = getattr(getattr(settings, one[0]), one[1])
        assert str(deployed[0] if isinstance(deployed, tuple) else deployed) == value
    assert process("serve", "--metrics-port", "1").setting("admin", "port", "--admin-port") is None


def test_picker_that_is_told_nothing_has_the_commands_own_defaults() -> None:
    settings = build(by_source(parser_for("picker").parse_args(["picker"])))
    for one, default in PICKER_DEFAULTS.items():
        assert str(getattr(getattr(settings, one[0]), one[1])) == default
        assert process("picker").setting(*one, "--no-such") == default
        assert process("serve").setting(*one, "--no-such") is None


def test_field_names_the_container_that_is_ours() -> None:
    assert process().field == "spec.template.spec.containers[1]"


@pytest.mark.parametrize(
    ("image", "ready", "found"),
    [
        ("aibrix-extproc:0.1.0", None, True),
        ("aibrix-extproc:0.1.0", 0, True),
        ("aibrix-extproc:0.1.0", 2, False),  # every node that needed it has it
        ("registry.example.com/aibrix-extproc:0.1.0", None, False),
        ("me/aibrix-extproc", None, False),
    ],
)
def test_doctor_questions_an_image_that_no_registry_has(image: str, ready: int | None, found: bool) -> None:
    objects = changed("Deployment", "spec.template.spec.containers.0.image", image)
    if ready is not None:
        deployment = next(one for one in objects if one["kind"] == "Deployment")
        deployment["status"] = {"readyReplicas": ready}
    notes = [one for one in examined(objects, live=ready is not None) if one.field.endswith(".image")]
    assert [one.severity for one in notes] == [Severity.NOTE] * found


def test_doctor_reads_settings_of_a_file_and_says_what_it_could_not_read() -> None:
    objects = changed("Deployment", "spec.template.spec.containers.0.envFrom", [{"secretRef": {"name": "s"}}])
    (found,) = examined(objects)
    assert (found.severity, found.field) == (Severity.NOTE, "spec.template.spec.containers[0]")
    assert "the Secret s" in found.notice
