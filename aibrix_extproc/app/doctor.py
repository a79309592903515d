"""`aibrix-extproc doctor`: gathers what there is to look at, lets the checks look, says what it is doing."""

import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, TextIO

import yaml

from aibrix_extproc.config_files import depth
from aibrix_extproc.doctor import access_checks, fleet_checks, metadata_reports, role_checks
from aibrix_extproc.doctor.diagnose import diagnose, named
from aibrix_extproc.doctor.finding import Finding, Severity
from aibrix_extproc.doctor.objects import Cluster, Thing, at, quantity, thing_of
from aibrix_extproc.doctor.process import process_of
from aibrix_extproc.doctor.setup import Setup, gateways_of, setup_of
from aibrix_extproc.settings import AdminSettings, KubernetesSettings, LimitSettings

MAX_FILE_BYTES: Final = 64 * 1024 * 1024
MAX_SETTINGS_CHARS: Final = 64 * 1024
SETTINGS_FILES: Final = (".yaml", ".yml")
Say = Callable[[str], None]


class DoctorError(Exception):
    """Nothing can be examined; one sentence that says what to do."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The cluster and the namespaces to examine."""

    kubeconfig: Path | None
    context: str | None
    namespace: str  # of the Gateway and of the processors
    controller_namespace: str  # of Envoy Gateway


def examine_files(files: Iterable[TextIO]) -> list[Finding]:
    """The checks that need no running cluster, over manifests. Raises DoctorError for what is no YAML."""
    things: list[Thing] = []
    for file in files:
        try:
            documents = depth.load_all(file.read(MAX_FILE_BYTES))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise DoctorError(f"{file.name} is not valid YAML: {error}") from error
        for document in documents:
            things += _things(document)
    if not things:
        raise DoctorError("there is no Kubernetes object in the files; give what `kubectl kustomize DIR` prints")
    return diagnose(Cluster(tuple(things), live=False, files=settings_files(things)), LimitSettings().max_body_bytes)


def settings_files(things: Iterable[Thing]) -> Mapping[tuple[str, str, str], Mapping[str, Any]]:
    """Settings in YAML files of ConfigMaps. Skips files that are too long, and those that are no mapping."""
    found = {}
    for thing in things:
        texts = thing.mapping("data").items() if thing.kind == "ConfigMap" else ()
        for key, text in texts:
            if not str(key).endswith(SETTINGS_FILES) or len(str(text)) > MAX_SETTINGS_CHARS:
                continue
            with contextlib.suppress(yaml.YAMLError):
                content = depth.load(str(text))
                if isinstance(content, dict):
                    found[thing.namespace, thing.name, str(key)] = content
    return found


def _things(document: Any) -> Iterable[Thing]:
    items = at(document, "items")
    for one in items if isinstance(items, list) else [document]:
        thing = thing_of(one) if isinstance(one, dict) else None
        if thing is not None:
            yield thing


async def examine_cluster(wanted: Wanted, say: Say) -> list[Finding]:
    """All checks over a live cluster. Raises DoctorError if it cannot be reached."""
    try:
        from aibrix_extproc.adapters.kube.inspect import inspecting
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "kubernetes":
            raise
        raise DoctorError("a live cluster needs an extra: in the clone run pip install -e '.[kubernetes]'") from error
    from aibrix_extproc.config_files.errors import SourceError

    try:
        async with inspecting(wanted.kubeconfig, wanted.context) as inspector:
            say(f"reading the namespace {wanted.namespace} by {inspector.described}")
            cluster = await inspector.cluster(wanted.namespace, wanted.controller_namespace)
            cluster = replace(cluster, files=settings_files(cluster.things))
            findings = diagnose(cluster, LimitSettings().max_body_bytes)
            for gateway in gateways_of(cluster):
                setup = setup_of(cluster, gateway, 0)
                for deployment in setup.deployments():
                    findings += await _examine_processors(inspector, setup, deployment, say)
                for deployment in setup.metadata_deployments():
                    findings += await _examine_metadata(inspector, setup, deployment)
            return list(dict.fromkeys(findings))
    except SourceError as error:
        raise DoctorError(str(error)) from error


async def _examine_processors(inspector: Any, setup: Setup, deployment: Thing, say: Say) -> list[Finding]:
    """Permissions, engines and the processors' own words, as their settings have it."""
    from aibrix_extproc.config_files.errors import SourceError

    found: list[Finding] = []
    namespaces, selector = watched(setup.cluster, deployment)
    say(f"reading the engines of {', '.join(namespaces) or 'all namespaces'}")
    try:
        warnings, endpoints = await inspector.fleet(namespaces, selector)
        found += named("pods", fleet_checks.pods(warnings, endpoints, selector))
    except SourceError as error:
        found.append(Finding(Severity.NOTE, "Pod", "", f"engines could not be read: {error}", "allow list", "pods"))
    account = (deployment.namespace, str(deployment.at("spec.template.spec.serviceAccountName") or "default"))
    say(f"asking what the service account {account[1]} may do")
    process = process_of(setup.cluster, deployment)
    wanted = access_checks.needed(
        namespaces,
        own=deployment.namespace,
        pool=process.setting("kubernetes", "inference_pool", "--inference-pool") is not None,
        publishes=process.setting("kubernetes", "publish_service", "--publish-service"),
        lease=process.setting("kubernetes", "lease_name", "--kubernetes-lease-name") or KubernetesSettings().lease_name,
    )
    subject = f"ServiceAccount {account[0]}/{account[1]}"
    try:
        found += named("access", access_checks.denied(subject, await inspector.allowed(account, wanted)))
    except SourceError as error:
        notice = f"its rights could not be asked for: {error}"
        fix = "run doctor as somebody who may create subjectaccessreviews"
        found.append(Finding(Severity.NOTE, subject, "", notice, fix, "access"))
    say("asking the processors what they see")
    labels = setup.processor_services()[0].at("spec.selector") or {}
    port = quantity(process.setting("admin", "port", "--admin-port")) or AdminSettings().port
    reports = await inspector.reports(deployment.namespace, labels, port)
    found += named("roles", role_checks.roles([one.fleet for one in reports]))
    return found + list(named("reports", fleet_checks.reports(reports)))


async def _examine_metadata(inspector: Any, setup: Setup, deployment: Thing) -> Iterable[Finding]:
    """Findings from what the pods of a metadata service say of their storage."""
    from aibrix_extproc.config_files.errors import SourceError

    port = quantity(process_of(setup.cluster, deployment).setting("admin", "port", "--admin-port"))
    labels = deployment.mapping("spec.selector.matchLabels")
    try:
        reports = await inspector.reports(deployment.namespace, labels, port or AdminSettings().port)
    except SourceError:
        return []  # whoever may not list pods is told so by the check of the processors
    return named("states", metadata_reports.states(reports))


def watched(cluster: Cluster, deployment: Thing) -> tuple[tuple[str, ...], str]:
    """Which namespaces (empty: all) and pods a processor's settings name."""
    process = process_of(cluster, deployment)
    given = process.setting("kubernetes", "namespaces", "--namespace")
    names = tuple(name for name in (given or deployment.namespace).split(",") if name)
    selector = process.setting("kubernetes", "pod_selector", "--pod-selector")
    if "*" in names:
        names = ("",)
    return names, selector or KubernetesSettings().pod_selector
