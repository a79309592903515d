"""Settings of the sources of engines, and of the choice of one for a request."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr

from aibrix_extproc.core.nearest import did_you_mean
from aibrix_extproc.core.placing import ATTEMPTS
from aibrix_extproc.core.routing.mix import InvalidMix, parse_mix
from aibrix_extproc.core.routing.registry import DEFAULT_STRATEGY, NOT_HERE, STRATEGIES
from aibrix_extproc.settings.fields import Group, Name, PortName, Seconds, ServiceName, flag


def _strategy_here(name: str) -> str:
    try:
        return parse_mix(name).label
    except InvalidMix as error:
        rule = f"must be one of {', '.join(STRATEGIES)}"
        if error.names == (name,):
            nearest = f"; {NOT_HERE[name]} comes nearest to AIBrix's {name}" if name in NOT_HERE else ""
            raise ValueError(f"{rule}{nearest or did_you_mean(name, STRATEGIES)}") from error
        raise ValueError(f"{rule}, or some of them with weights (least-request:2,random:1): {error}") from error


class FleetSettings(Group):
    """Where endpoints come from, and how engines are asked what they serve."""

    file: Path | None = Field(
        None, description="YAML file with endpoints, watched and reloaded", json_schema_extra=flag("--fleet")
    )
    endpoints: tuple[str, ...] = Field(
        (), description="endpoints as http://HOST:PORT, with =MODEL,MODEL to fix what one serves",
        json_schema_extra=flag("--endpoint"),
    )  # fmt: skip
    prefill_endpoints: tuple[str, ...] = Field(
        (), description="the same for engines that only compute prompts for those of `endpoints` (role prefill)",
        json_schema_extra=flag("--prefill-endpoint"),
    )  # fmt: skip
    engine_api_key: SecretStr | None = Field(
        None, description="key sent to engines that have none of their own", json_schema_extra=flag("--engine-api-key")
    )
    poll_seconds: Seconds = Field(
        2.0,
        description="how often a ready engine is asked for its models and health; in a fleet of over 160, "
        "one that has been well for long is asked less often (80 engines a second, each at least every 30 seconds)",
    )
    poll_timeout_seconds: Seconds = Field(2.0, description="how long an engine may take to answer that")


class KubernetesSettings(Group):
    """The fleet from a Kubernetes API: pods by AIBrix's labels, or those of an InferencePool."""

    enabled: bool = Field(
        False, description="watch pods (needs the extra `kubernetes`)", json_schema_extra=flag("--kubernetes")
    )
    kubeconfig: Path | None = Field(
        None, description="kubeconfig file; without it the pod's service account, else the user's kubeconfig",
        json_schema_extra=flag("--kubeconfig"),
    )  # fmt: skip
    context: Name | None = Field(
        None, description="context of the kubeconfig; its current one if none is named",
        json_schema_extra=flag("--kube-context"),
    )  # fmt: skip
    namespaces: tuple[Name, ...] = Field(
        (), description="namespaces to watch, * for all; the one we run in, or the context's, if none is named",
        json_schema_extra=flag("--namespace"),
    )  # fmt: skip
    pod_selector: Name = Field(
        "model.aibrix.ai/name", description="which pods, as kubectl's -l takes it; the API server selects",
        json_schema_extra=flag("--pod-selector"),
    )  # fmt: skip
    inference_pool: Name | None = Field(
        None, description="take pods and ports of this InferencePool, in the first namespace, in place of the selector",
        json_schema_extra=flag("--inference-pool"),
    )  # fmt: skip
    slice_selector: Name | None = Field(
        None, description="which EndpointSlices have engines outside of pods, but for our own; none without it",
        json_schema_extra=flag("--slice-selector"),
    )  # fmt: skip
    publish_service: ServiceName | None = Field(
        None,
        description="Service without a selector, in our own namespace, whose EndpointSlices we write: every engine of"
        " the fleet becomes its endpoint, so that Envoy Gateway's routes reach it; none are written without it",
        json_schema_extra=flag("--publish-service"),
    )
    publish_port_name: PortName = Field("http", description="name of that Service's port; empty if it has none")
    lease_name: ServiceName = Field(
        "aibrix-extproc-publisher", description="Lease by which replicas agree on who writes these EndpointSlices"
    )
    model_adapters: bool = Field(True, description="watch AIBrix's ModelAdapters where their kind is installed")
    follow_model_adapters: bool = Field(
        False,
        description="the metadata service loads what AIBrix's ModelAdapters ask for and writes their status; only where"
        " AIBrix's own controller does not run",
    )
    page_size: int = Field(250, ge=1, le=10_000, description="objects asked for at once in a listing")
    silence_seconds: Seconds = Field(
        90.0, description="a watch that is silent this long is begun anew; bookmarks come once a minute"
    )


class RoutingSettings(Group):
    """How an endpoint is picked."""

    strategy: Annotated[str, AfterValidator(_strategy_here)] = Field(
        DEFAULT_STRATEGY, description=f"strategy when the client names none: {', '.join(STRATEGIES)}; "
        "or several with weights (least-request:2,random:1)",
        json_schema_extra=flag("--strategy"),
    )  # fmt: skip
    destinations: int = Field(
        ATTEMPTS, ge=1, le=16,
        description="addresses in the destination header, one per attempt of Envoy, repeated where there are fewer; "
        "1 for data planes that read one address only",
        json_schema_extra=flag("--destinations"),
    )  # fmt: skip
    kv_events: bool = Field(
        False,
        description="follow the cache events of engines that publish them (vLLM's --kv-events-config; needs the extra "
        "`kvevents`): strategies that look for prefixes then know what engines have evicted",
        json_schema_extra=flag("--kv-events"),
    )
    state_file: Path | None = Field(
        None,
        description="file in which a gateway leaves what it has learned of engines, every 30 seconds and at its end,"
        " for the next one to begin with; with `routing.share` Redis has it, too",
        json_schema_extra=flag("--routing-state"),
    )
    share: bool = Field(
        False,
        description="tell other gateways over `redis.url` which prompts went to which engine, so that several predict"
        " as one (docs/routing.md); needs `metering.note_keys`, by which they know each other",
        json_schema_extra=flag("--share-placements"),
    )  # fmt: skip
    warm_up_seconds: float = Field(
        10.0, ge=0.0, le=3600.0,
        description="after its cordon has ended an endpoint gets a share of its requests that grows from a tenth to all"
        " of them in this time; 0 gives it all of them at once",
    )  # fmt: skip
    decisions: int = Field(
        2048, ge=0, le=65536,
        description="decisions that are kept in memory for `explain`, with their scores; 0 keeps none",
    )  # fmt: skip


class PickerSettings(Group):
    """Serving as an endpoint picker of the Gateway API Inference Extension; the command `picker` sets the first."""

    assume_duplex: bool = Field(
        False,
        description="a data plane that does not say how it sends bodies streams them both ways (FULL_DUPLEX_STREAMED)",
    )
    test_mode: bool = Field(
        False,
        description="be the picker of the extension's conformance tests: any request to any endpoint, or to the one "
        "that a request header names; never in production",
        json_schema_extra=flag("--test-mode"),
    )
