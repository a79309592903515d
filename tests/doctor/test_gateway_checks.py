"""What doctor reads from Envoy Gateway's own configuration and version."""

import pytest

from aibrix_extproc.doctor.finding import Severity
from tests.doctor.test_doctor import checks_of_lua, controller, examined, of_live


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
    assert ("lua_switch" not in checks_of_lua(text)) is on


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


@pytest.mark.parametrize(
    ("reason", "severity"), [("AddressNotAssigned", Severity.WARNING), ("Invalid", Severity.ERROR)]
)
def test_doctor_only_warns_of_a_gateway_that_works_and_has_no_address(reason: str, severity: Severity) -> None:
    objects = of_live(controller("v1.9.1"))
    for one in objects:
        if one["kind"] == "Gateway":
            accepted = {"type": "Accepted", "status": "True"}
            programmed = {"type": "Programmed", "status": "False", "reason": reason, "message": "words"}
            one["status"]["conditions"] = [accepted, programmed]
    assert [one.severity for one in examined(objects, live=True) if one.check == "conditions"] == [severity]


def test_doctor_names_a_listener_without_its_certificate() -> None:
    def conditions(resolved: str) -> list[dict[str, str]]:
        wrong = {"reason": "InvalidCertificateRef", "message": "Secret aibrix-extproc-tls does not exist"}
        return [{"type": "Programmed", "status": resolved, "reason": "Invalid", "message": "see the others"},
                {"type": "ResolvedRefs", "status": resolved} | (wrong if resolved == "False" else {})]  # fmt: skip

    objects = of_live(controller("v1.9.1"))
    (gateway,) = [one for one in objects if one["kind"] == "Gateway"]
    gateway["status"]["listeners"] = [{"name": "http", "conditions": conditions("True")}]
    assert examined(objects, live=True) == []
    gateway["status"]["listeners"].append({"name": "https", "conditions": conditions("False")})
    (found,) = examined(objects, live=True)
    assert (found.check, found.severity, found.field) == ("conditions", Severity.ERROR, "status.listeners[https]")
    assert "aibrix-extproc-tls" in found.notice


@pytest.mark.parametrize(
    ("message", "switch"),
    [("Lua: Skipping Lua EnvoyExtensionPolicy as feature is disabled in the Gateway", True),
     ("Lua: can't find the referenced configmap aibrix-extproc-stream-filter", False)],
)  # fmt: skip
def test_doctor_tells_a_switch_that_is_off_from_a_script_that_is_missing(message: str, switch: bool) -> None:
    objects = of_live(controller("v1.9.1"))
    (policy,) = [one for one in objects if one["kind"] == "EnvoyExtensionPolicy"]
    refused = {"type": "Accepted", "status": "False", "reason": "Invalid", "message": message}
    policy["status"]["ancestors"][0]["conditions"] = [refused]
    (found,) = [one for one in examined(objects, live=True) if one.check == "conditions"]
    assert ("enableLua" in found.fix) is switch
