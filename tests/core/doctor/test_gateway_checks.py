"""What doctor reads from Envoy Gateway's own configuration and version."""

from typing import Any

import pytest

from aibrix_extproc.core.doctor.finding import Severity
from tests.core.doctor.test_doctor import controller, examined, of_live


@pytest.mark.parametrize(
    ("text", "on"),
    [
        ("extensionApis:\n  enableLua: true\n", True),
        ("extensionApis:\n  enableLua: true # for metering\n  enableBackend: true\n", True),
        ("extensionApis:\r\n  enableLua: true\r\n", True),
        ('extensionApis:\n  "enableLua": true', True),
        ("extensionApis:\n  'enableLua' : True", True),
        ("extensionApis: {enableLua: true}", True),
        ("extensionApis: {enableBackend: true, enableLua: true, x: 1}", True),
        ('{"extensionApis":{"enableLua":true}}', True),
        ("extensionApis:\n  enableBackend: true\n", False),
        ("extensionApis:\n  enableLua: false\n", False),
        ("extensionApis:\n  enableLua: false # true\n", False),
        ("extensionApis:\n  # enableLua: true\n", False),
        ("extensionApis: {} # {enableLua: true}", False),
        ("extensionApis: {enableLua: false, enableBackend: true}", False),
        ("extensionApis:\n  enableLua: true#no\n", False),
        ("extensionApis:\n  disenableLua: true\n", False),
    ],
)
def test_doctor_reads_the_switch_of_lua_in_every_style(text: str, on: bool) -> None:
    objects = of_live(controller("v1.9.1"))
    for one in objects:
        if one["kind"] == "EnvoyExtensionPolicy":
            one["spec"]["lua"] = [{"type": "Inline"}]
    config: dict[str, Any] = {
        "kind": "ConfigMap",
        "metadata": {"name": "envoy-gateway-config", "namespace": "envoy-gateway-system"},
        "data": {"envoy-gateway.yaml": text},
    }
    assert ("lua_switch" not in {one.check for one in examined([*objects, config], live=True)}) is on


FLAG = "envoy.reloadable_features.ext_proc_stream_close_optimization"


@pytest.mark.parametrize(
    ("tag", "bootstrap", "severities"),
    [
        ("v1.6.2", None, [Severity.ERROR]),
        ("v1.7.0", None, [Severity.WARNING]),
        ("v1.8.3", None, [Severity.WARNING]),
        ("v1.8.3", {"type": "Merge", "value": "admin: {}"}, [Severity.WARNING]),
        ("v1.8.3", {"type": "Merge", "value": f"layered_runtime: ... {FLAG}: false"}, []),
        ("v1.9.0", None, []),
        ("latest", None, []),
    ],
)
def test_doctor_warns_of_an_envoy_that_leaves_at_the_head_of_an_answer(
    tag: str, bootstrap: dict[str, str] | None, severities: list[Severity]
) -> None:
    objects = of_live(controller(tag))
    for one in objects:
        if one["kind"] == "EnvoyProxy" and bootstrap is not None:
            one["spec"]["bootstrap"] = bootstrap
    assert [one.severity for one in examined(objects, live=True) if one.check == "version"] == severities
