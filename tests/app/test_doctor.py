"""`doctor` as it is used: over files, and over an API that answers as a cluster with the shipped manifests does."""

import asyncio
import contextlib
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from aibrix_extproc.app.doctor import DoctorError, Wanted, examine_cluster, examine_files
from aibrix_extproc.cli.main import main
from aibrix_extproc.doctor.finding import Finding, Severity
from charts.builds import MANIFESTS, rendered
from tests.doctor.test_doctor import controller, manifests, of_live

OWN = "aibrix-extproc-system"
PLURALS = {
    "gatewayclasses": "GatewayClass", "gateways": "Gateway", "httproutes": "HTTPRoute", "envoyproxies": "EnvoyProxy",
    "httproutefilters": "HTTPRouteFilter", "envoyextensionpolicies": "EnvoyExtensionPolicy",
    "clienttrafficpolicies": "ClientTrafficPolicy", "backendtrafficpolicies": "BackendTrafficPolicy",
    "services": "Service", "endpointslices": "EndpointSlice", "deployments": "Deployment", "configmaps": "ConfigMap",
    "horizontalpodautoscalers": "HorizontalPodAutoscaler", "networkpolicies": "NetworkPolicy",
    "backendtlspolicies": "BackendTLSPolicy",
    "pods": "Pod", "modeladapters": "ModelAdapter",
}  # fmt: skip


def pod(name: str, labels: dict[str, str]) -> dict[str, Any]:
    return {
        "kind": "Pod",
        "metadata": {"name": name, "namespace": OWN, "uid": name, "labels": labels},
        "status": {"podIP": "10.0.0.1", "phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    }


class Api:
    """Lists, reviews and proxied pods; what a test changes is public."""

    def __init__(self) -> None:
        self.objects = [
            *of_live(controller("v1.9.1")),
            pod("vllm-0", {"model.aibrix.ai/name": "llama", "model.aibrix.ai/port": "8000"}),
            pod("aibrix-extproc-1", {"app.kubernetes.io/name": "aibrix-extproc"}),
        ]
        self.denied: set[str] = set()  # kinds that the service account may not touch
        self.unreadable: set[str] = set()  # plurals that we may not list
        self.health: dict[str, Any] = {"ready": True, "sources": {"kubernetes": {"ok": True}}}
        self.endpoints: list[dict[str, str]] = []
        self.methods: set[str] = set()
        self.reviews: list[dict[str, str]] = []

    @contextlib.asynccontextmanager
    async def serving(self, directory: Path) -> AsyncIterator[Path]:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        config = directory / "kubeconfig"
        server = {"server": f"http://127.0.0.1:{runner.addresses[0][1]}"}
        config.write_text(yaml.safe_dump({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "k", "cluster": server}], "users": [{"name": "u", "user": {}}],
            "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        }))  # fmt: skip
        try:
            yield config
        finally:
            await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        self.methods.add(request.method)
        path = request.path
        if path.endswith("/subjectaccessreviews"):
            asked = (await request.json())["spec"]["resourceAttributes"]
            self.reviews.append(asked)
            return web.json_response({"status": {"allowed": asked["resource"] not in self.denied}}, status=201)
        if path.endswith("/proxy/fleet"):
            return web.json_response({"endpoints": self.endpoints})
        if path.endswith("/proxy/readyz"):
            return web.json_response(self.health, status=200 if self.health["ready"] else 503)
        plural = path.rpartition("/")[2]
        if plural in self.unreadable:
            return web.json_response({"message": f"{plural} is forbidden", "code": 403}, status=403)
        return web.json_response({"metadata": {}, "items": list(self._items(path, plural, request))})

    def _items(self, path: str, plural: str, request: web.Request) -> Any:
        parts = path.split("/")
        namespace = parts[parts.index("namespaces") + 1] if "namespaces" in parts else None
        name, _, value = request.query.get("labelSelector", "").partition("=")
        for one in self.objects:
            labels = one["metadata"].get("labels", {})
            if one["kind"] != PLURALS[plural] or namespace not in (None, one["metadata"].get("namespace")):
                continue
            if not name or (name in labels and value in ("", labels[name])):
                yield {key: inner for key, inner in one.items() if key != "kind"}  # lists name no kinds


async def examined(api: Api, directory: Path) -> list[tuple[str, str, str]]:
    said: list[str] = []
    async with api.serving(directory) as kubeconfig:
        found = await examine_cluster(Wanted(kubeconfig, None, OWN, "envoy-gateway-system"), said.append)
    assert said
    return [(one.check, one.severity.value, one.subject) for one in found]


async def test_doctor_finds_nothing_in_a_good_cluster_and_writes_nothing(tmp_path: Path) -> None:
    api = Api()
    assert await examined(api, tmp_path) == []
    assert api.methods == {"GET", "POST"}  # reviews are asked by POST


async def test_doctor_tells_of_missing_rights_broken_pods_and_silent_engines(tmp_path: Path) -> None:
    api = Api()
    api.denied = {"endpointslices"}
    labels = {"model.aibrix.ai/name": "llama", "model.aibrix.ai/port": "99999"}
    api.objects.append(pod("vllm-1", labels))
    api.endpoints = [{"name": "vllm-0", "health": "unreachable", "detail": "refused"}]
    for one in api.objects:
        if one["kind"] == "Deployment" and one["metadata"]["name"] == "aibrix-extproc":
            one["spec"]["template"]["spec"]["containers"][0]["args"] += ["--publish-service", "aibrix-engines"]
    assert await examined(api, tmp_path) == [
        ("pods", "warning", f"Pod {OWN}/vllm-1"),
        ("access", "error", f"ServiceAccount {OWN}/aibrix-extproc"),
        ("reports", "warning", "engine vllm-0"),
    ]


async def test_doctor_of_processors_that_watch_all_namespaces_looks_at_all_of_them(tmp_path: Path) -> None:
    api = Api()
    elsewhere = pod("vllm-1", {"model.aibrix.ai/name": "llama", "model.aibrix.ai/port": "99999"})
    elsewhere["metadata"]["namespace"] = "models"
    api.objects.append(elsewhere)
    api.denied = {"pods"}
    for one in api.objects:
        if one["kind"] == "Deployment" and one["metadata"]["name"] == "aibrix-extproc":
            one["spec"]["template"]["spec"]["containers"][0]["args"] += ["--namespace", "*"]
    assert await examined(api, tmp_path) == [
        ("pods", "warning", "Pod models/vllm-1"),
        ("access", "error", f"ServiceAccount {OWN}/aibrix-extproc"),
    ]
    assert {one.get("namespace") for one in api.reviews if one["resource"] == "pods"} == {None}


async def test_doctor_that_may_not_list_a_kind_says_so(tmp_path: Path) -> None:
    api = Api()
    api.unreadable = {"services"}
    assert ("read", "note", "Service") in await examined(api, tmp_path)


async def test_doctor_says_which_processor_is_not_ready(tmp_path: Path) -> None:
    api = Api()
    api.health = {"ready": False, "fleet_known": True, "keys": {"known": False, "error": "keys.yaml: no such file"}}
    assert await examined(api, tmp_path) == [("reports", "warning", f"Pod {OWN}/aibrix-extproc-1")]
    async with api.serving(tmp_path) as kubeconfig:
        (found,) = await examine_cluster(Wanted(kubeconfig, None, OWN, "envoy-gateway-system"), lambda _: None)
    assert "keys.yaml: no such file" in found.notice


async def test_doctor_reads_settings_of_a_file_in_a_config_map(tmp_path: Path) -> None:
    api = Api()
    api.objects.append({
        "kind": "ConfigMap", "metadata": {"name": "told", "namespace": OWN},
        "data": {"settings.yaml": "kubernetes: {namespaces: [models]}", "broken.yaml": "a: [", "text.yaml": "a"},
    })  # fmt: skip
    for one in api.objects:
        if one["kind"] == "Deployment" and one["metadata"]["name"] == "aibrix-extproc":
            pod = one["spec"]["template"]["spec"]
            pod["volumes"] = [{"name": "v", "configMap": {"name": "told"}}]
            pod["containers"][0]["volumeMounts"] = [{"name": "v", "mountPath": "/etc/told"}]
            pod["containers"][0]["args"] += ["--config", "/etc/told/settings.yaml"]
    assert await examined(api, tmp_path) == [("pods", "error", "Pods with model.aibrix.ai/name")]


def test_doctor_over_manifests_without_a_gateway_notes_what_it_did_not_look_at() -> None:
    def of(*objects: dict[str, Any]) -> list[tuple[str, str]]:
        found = examine_files([io.StringIO(yaml.safe_dump_all(objects))])
        return [(one.check, one.severity.value) for one in found]

    (processor,) = [one for one in manifests() if one["kind"] == "Deployment"]
    assert of(pod("vllm-0", {})) == [("gateway", "note")]
    assert ("gateway", "error") in of(processor)  # which nobody asks
    (container,) = processor["spec"]["template"]["spec"]["containers"]
    container["args"] = ["picker", "--pool-name", "p"]
    processor["spec"]["replicas"] = 2
    assert of(processor) == [("gateway", "note")]
    processor["spec"]["replicas"] = 1
    assert of(processor) == [("gateway", "note"), ("deployed", "warning")]


async def test_doctor_without_an_api_server_says_that_it_cannot_be_reached(tmp_path: Path) -> None:
    async with Api().serving(tmp_path) as kubeconfig:
        pass
    with pytest.raises(DoctorError, match="cannot be reached"):
        await examine_cluster(Wanted(kubeconfig, None, OWN, "envoy-gateway-system"), lambda _: None)


def test_doctor_tells_an_empty_cluster_apart_from_a_missing_policy(tmp_path: Path) -> None:
    empty, bare = Api(), Api()
    empty.objects = []
    (found,) = asyncio.run(errors_of(empty, tmp_path))
    assert found.subject == "Gateway"
    assert "nothing of ours is installed" in found.notice
    assert "--gateway-namespace" in found.fix
    bare.objects = [one for one in bare.objects if one["kind"] != "EnvoyExtensionPolicy"]
    (found,) = asyncio.run(errors_of(bare, tmp_path))
    assert found.subject == "EnvoyExtensionPolicy"
    assert "no extension policy" in found.notice


async def errors_of(api: Api, tmp_path: Path) -> list[Finding]:
    async with api.serving(tmp_path) as kubeconfig:
        found = await examine_cluster(Wanted(kubeconfig, None, OWN, "envoy-gateway-system"), lambda _: None)
    return [one for one in found if one.severity is Severity.ERROR]


def test_doctor_over_manifests_with_metering_names_the_switch_that_they_need() -> None:
    text = rendered(MANIFESTS / "overlays" / "production")
    (found,) = [one for one in examine_files([io.StringIO(text)]) if one.check == "lua_switch"]
    assert found.severity is Severity.NOTE
    assert "extensionApis.enableLua" in found.fix


def test_doctor_over_files_that_hold_no_object_says_what_to_give() -> None:
    with pytest.raises(DoctorError, match="kubectl kustomize"):
        examine_files([io.StringIO("# nothing")])
    broken = io.StringIO("a: [")
    broken.name = "broken.yaml"
    with pytest.raises(DoctorError, match=r"broken\.yaml is not valid YAML"):
        examine_files([broken])


def test_doctor_command_over_files_exits_by_what_it_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text(yaml.safe_dump_all(manifests()))
    bad.write_text(yaml.safe_dump_all([one for one in manifests() if one["kind"] != "ClientTrafficPolicy"]))
    assert main(["doctor", "--files", str(good)]) == 0
    assert "Nothing is wrong" in capsys.readouterr().out
    assert main(["doctor", "--files", str(bad), "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is False
    assert set(report["findings"][0]) == {"severity", "subject", "field", "notice", "fix", "check"}
    assert main(["doctor", "--files", str(bad)]) == 1
    shown = capsys.readouterr().out
    assert shown.startswith("ERROR ")
    assert "fix: " in shown
    monkeypatch.setattr("sys.stdin", io.StringIO(good.read_text()))
    assert main(["doctor", "--files", "-"]) == 0


@pytest.mark.parametrize("arguments", [["--files", "/nowhere/x.yaml"], ["--kubeconfig", "/nowhere/config"]])
def test_doctor_command_that_cannot_look_exits_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", *arguments]) == 2
    assert "/nowhere" in capsys.readouterr().err


def test_doctor_command_lets_warnings_fail_if_it_is_strict(tmp_path: Path) -> None:
    warned = tmp_path / "warned.yaml"
    warned.write_text(yaml.safe_dump_all([one for one in manifests() if one["kind"] != "HorizontalPodAutoscaler"]))
    assert main(["doctor", "--files", str(warned)]) == 0
    assert main(["doctor", "--files", str(warned), "--strict"]) == 1


def test_doctor_takes_namespaces_from_the_deployed_settings(tmp_path: Path) -> None:
    api = Api()
    for one in api.objects:
        if one["kind"] == "Deployment" and one["metadata"]["name"] == "aibrix-extproc":
            one["spec"]["template"]["spec"]["containers"][0]["args"] += ["--namespace", "llm", "--namespace=other"]
    assert ("pods", "error", "Pods with model.aibrix.ai/name") in asyncio.run(examined(api, tmp_path))
