"""Engines: pods with broken labels, and what the running processors say of their fleet."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from aibrix_extproc.doctor.finding import Finding, Severity
from aibrix_extproc.doctor.objects import at, listed

MAX_ENGINES: Final = 50  # of one report; the rest is counted


@dataclass(frozen=True, slots=True)
class Report:
    """The pages of one processor's admin port, or the reason why there are none."""

    subject: str
    health: Mapping[str, Any] = field(default_factory=dict)
    fleet: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""
    denied: bool = False  # whoever runs doctor may not ask through the API server


def pods(warnings: Mapping[str, str], endpoints: int, selector: str) -> Iterator[Finding]:
    """Findings from pods, read as the processor does."""
    if endpoints == 0:
        yield Finding(
            Severity.ERROR, f"Pods with {selector}", "metadata.labels",
            "no pod of the namespaces looked at is an engine: every model is unknown",
            "label vLLM's pods with model.aibrix.ai/name, or name their namespace",
        )  # fmt: skip
    for subject, why in warnings.items():
        yield Finding(
            Severity.WARNING, subject, "metadata", f"it is no engine, or not as it says: {why}",
            "correct the label or annotation; docs/labels.md has their forms",
        )  # fmt: skip


def reports(found: Iterable[Report]) -> Iterator[Finding]:
    """Findings from the processors' own pages: their warnings, and engines that are not ready."""
    engines: dict[tuple[str, str, str], set[str]] = {}
    warnings: dict[tuple[str, str], None] = {}
    for report in found:
        if report.error:
            yield _silent(report)
            continue
        yield from _health(report)
        for one in listed(report.fleet, "endpoints"):
            health, detail = str(at(one, "health")), str(at(one, "detail") or "")
            if at(one, "remark"):
                warnings[str(at(one, "name")), str(at(one, "remark"))] = None
            if health not in ("ready", "draining"):
                engines.setdefault((str(at(one, "name")), health, detail), set()).add(report.subject)
    for (name, health, detail), seen in sorted(engines.items())[:MAX_ENGINES]:
        refused = "key" in detail or detail.endswith(("answers 401", "answers 403"))
        yield Finding(
            Severity.WARNING, f"engine {name}", "",
            f"{len(seen)} processor(s) see it {health}: {detail or 'no reason'}",
            "set the key that the engine wants: engine_api_key" if refused
            else "see the engine's log, its port label, and whether a NetworkPolicy keeps the processor out",
        )  # fmt: skip
    for name, warning in sorted(warnings)[:MAX_ENGINES]:
        yield Finding(
            Severity.WARNING, f"engine {name}", "metadata.labels", warning,
            "start the engine with that name (vLLM: --served-model-name), or give the label a name that it lists",
        )  # fmt: skip
    if len(engines) > MAX_ENGINES:
        yield Finding(Severity.NOTE, "engines", "", f"{len(engines) - MAX_ENGINES} more are not ready", "see /fleet")


def _silent(report: Report) -> Finding:
    """A note, as nothing needs to be wrong: the admin port is closed to all but those whom a NetworkPolicy lets in."""
    return Finding(
        Severity.NOTE, report.subject, "",
        f"what it sees of engines is not known, its admin port could not be asked: {report.error}",
        "run doctor as somebody who may get pods/proxy" if report.denied
        else "a NetworkPolicy, as the shipped one, may keep the API server out; or the process is stuck, or its"
        " admin.host is not 0.0.0.0. kubectl port-forward to its admin port, then read /fleet and /readyz",
    )  # fmt: skip


def _reasons(health: Mapping[str, Any]) -> Iterator[str]:
    """Why a processor is not ready, in the words of its own page."""
    if health.get("draining"):
        yield "it is draining"
    if health.get("fleet_known") is False:
        sources = health.get("sources")
        silent = [str(at(one, "error")) for one in sources.values()] if isinstance(sources, Mapping) else []
        yield f"it does not know its fleet yet ({', '.join(filter(None, silent)) or 'it is reading it'})"
    keys = health.get("keys")
    if at(keys, "known") is False:
        yield f"it does not know its keys yet ({at(keys, 'error') or 'it is reading them'})"


def _health(report: Report) -> Iterator[Finding]:
    if not report.health.get("ready"):
        why = "; ".join(_reasons(report.health)) or "it does not say why"
        yield Finding(
            Severity.WARNING, report.subject, "/readyz", f"it is not ready: {why}", "see its log for what it waits for"
        )
    if at(report.health, "keys.who") == "nobody":
        yield Finding(
            Severity.WARNING, report.subject, "/readyz", "its key file holds no key: every request is refused",
            "make one: aibrix-extproc keys new",
        )  # fmt: skip
    for name, source in (report.health.get("sources") or {}).items():
        if not at(source, "ok"):
            yield Finding(
                Severity.ERROR, report.subject, f"/readyz sources.{name}",
                f"the fleet is no longer kept up to date: {at(source, 'error')}", "correct what the message names",
            )  # fmt: skip
