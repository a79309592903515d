"""What doctor reads from Envoy Gateway's own configuration and version."""

from typing import Any

import pytest

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
