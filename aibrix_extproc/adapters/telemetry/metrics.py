"""Counts facts as Prometheus metrics, with bounded label values.

Operations are bounded by the table, models and endpoints by the fleet, callers by the key ring. A model that the fleet
does not serve and a caller without a key never become label values. Both give their places back
when they are gone (`slots.py`).
"""

import time
from collections.abc import Callable, Container
from typing import Final

from aibrix_extproc.adapters.telemetry.registry import MetricRegistry, Rows
from aibrix_extproc.adapters.telemetry.slots import OTHER, LabelSlots
from aibrix_extproc.adapters.telemetry.tallies import Distribution, Tally
from aibrix_extproc.core.exchange.outputs import Finished, Phase
from aibrix_extproc.core.exchange.records import UNMETERED, Charge
from aibrix_extproc.core.openai.contract.operation_rows import OPERATIONS
from aibrix_extproc.core.routing.disaggregation.handover import PREFILL_REASONS, PrefillOutcome
from aibrix_extproc.core.routing.record import Reason

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
MAX_MODELS: Final = 500  # label values; further ones are counted together
MAX_CALLERS: Final = 500

COMBINATION: Final = "combination"  # clients name them: no bound
_OPERATION_IDS: Final = frozenset(operation.id for operation in OPERATIONS)
_STATUSES: Final = 600  # numbers that are no status share a label
_PHASE_BUCKETS: Final = (5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 5e-2, 0.25, 1.0)
_DELAY_BUCKETS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0)
_WAIT_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)

# name: kind, labels, help; for the reference page and the registry
METRICS: Final[Rows] = {
    "aibrix_extproc_exchanges_total": (
        "counter", ("operation", "model", "status", "outcome"), "Finished exchanges.",
    ),
    "aibrix_extproc_problems_total": ("counter", ("problem",), "Refusals and failures by row of the error table."),
    "aibrix_extproc_retried_total": (
        "counter", ("model",), "Exchanges that another engine served than the one picked first.",
    ),
    "aibrix_extproc_decision_total": (
        "counter", ("strategy", "reason"),
        f"Placements by strategy and by who named it ({', '.join(Reason)}); `combination` has several parts."
        " Nothing is counted while routing.decisions is 0.",
    ),
    "aibrix_extproc_engine_speed_tokens_per_second": (
        "gauge", ("endpoint",), "Tokens of prompts that an engine computes in a second, learned from its answers.",
    ),
    "aibrix_extproc_index_blocks": ("gauge", (), "Blocks of prompts in the prefix index, of all endpoints together."),
    "aibrix_extproc_prefix_predicted_tokens_total": (
        "counter", (), "Tokens that the prefix index expected in the caches of the engines that answered.",
    ),
    "aibrix_extproc_prefix_actual_tokens_total": (
        "counter", (), "Tokens of the same answers that engines had in their caches, as they reported.",
    ),
    "aibrix_extproc_predicted_ttft_error_seconds": (
        "histogram", (), "How far the predicted time to the first token was from the real one.",
    ),
    "aibrix_extproc_prefill_total": (
        "counter", ("outcome",),
        f"Requests for models with prefill engines, by who computed the prompt and why: {', '.join(PrefillOutcome)}.",
    ),
    "aibrix_extproc_prefill_failures_total": (
        "counter", ("reason",), f"Prompts that a prefill engine did not compute: {', '.join(PREFILL_REASONS)}.",
    ),
    "aibrix_extproc_prefill_seconds": (
        "histogram", (), "How long requests waited for prefill engines, all attempts together.",
    ),
    "aibrix_extproc_prefills": ("gauge", (), "Prompts that prefill engines compute now."),
    "aibrix_extproc_phase_seconds": ("histogram", ("phase",), "Our own time for one message of Envoy."),
    "aibrix_extproc_response_head_seconds": (
        "histogram", ("operation", "model"), "From the request's head to the response's head.",
    ),
    "aibrix_extproc_exchange_seconds": (
        "histogram", ("operation", "model"), "From the request's head to the end of the exchange.",
    ),
    "aibrix_extproc_tokens_total": (
        "counter", ("model", "caller", "kind"), "Tokens by Envoy's access log; cached is a part of input.",
    ),
    "aibrix_extproc_audio_seconds_total": ("counter", ("model", "caller"), "Seconds of audio by Envoy's access log."),
    "aibrix_extproc_unmetered_total": (
        "counter", ("operation", "reason"),
        f"Successes of which no usage is known, by reason: {', '.join(UNMETERED)}.",
    ),
    "aibrix_extproc_body_bytes_total": (
        "counter", ("model", "direction"), "Bytes of bodies by Envoy's access log: in is from clients, out is to them.",
    ),
    "aibrix_extproc_streams_total": (
        "counter", ("operation", "model", "end"), "Streamed answers by how they ended: complete, error, cut, left.",
    ),
    "aibrix_extproc_access_log_malformed_total": (
        "counter", (), "Messages and entries of Envoy's access log that could not be read.",
    ),
    "aibrix_extproc_usage_waiting": ("gauge", (), "Usage records that wait to be sent to the metadata service."),
    "aibrix_extproc_usage_spool_bytes": ("gauge", (), "Bytes of these records; usage.buffer_bytes at most."),
    "aibrix_extproc_usage_sent_total": ("counter", (), "Usage records that the metadata service has taken."),
    "aibrix_extproc_usage_lost_total": (
        "counter", (), "Usage records that are lost: the spool was full, or the metadata service refuses them.",
    ),
    "aibrix_extproc_access_log_refused_total": (
        "counter", ("reason",),
        "Entries of Envoy's access log that are not charged: unsealed, forged, expired, repeated, forgotten.",
    ),
    "aibrix_extproc_port_refusals_total": (
        "counter", ("reason",),
        "Connections and streams of peers that were refused or ended: bounds, handshakes, client certificates.",
    ),
    "aibrix_extproc_port_connections": (
        "gauge", (), "Connections at the ext_proc port; absent with the grpcio transport, which does not count them.",
    ),
    "aibrix_extproc_port_streams": ("gauge", (), "Exchanges that are open at the ext_proc port."),
    "aibrix_extproc_internal_errors_total": ("counter", (), "Unexpected exceptions that became an answer."),
    "aibrix_extproc_loop_delay_seconds": (
        "histogram", (), "How late the event loop was, measured 20 times a second; all exchanges wait as long.",
    ),
    "aibrix_extproc_in_flight": ("gauge", ("endpoint",), "Exchanges that are with an endpoint now."),
    "aibrix_extproc_endpoints": ("gauge", ("health",), "Endpoints of the fleet by health."),
    "aibrix_extproc_kv_event_engines": (
        "gauge", (), "Engines whose cache events are followed; absent without routing.kv_events.",
    ),
    "aibrix_extproc_kv_event_gaps_total": (
        "counter", (), "Times that cache events of an engine were lost, and what it has is not known.",
    ),
    "aibrix_extproc_sharing_ok": (
        "gauge", (), "0 while placements cannot be shared with other gateways; absent without routing.share.",
    ),
    "aibrix_extproc_sharing_gateways": (
        "gauge", (), "Other gateways whose placements are known; absent without routing.share.",
    ),
    "aibrix_extproc_sharing_placements": (
        "gauge", ("what",), "Placements since the start that were sent, received, or dropped as there were too many.",
    ),
    "aibrix_extproc_sharing_refused": (
        "gauge", ("reason",),
        "Messages of other gateways that were not used: forged, unreadable, repeated, stale, too_many.",
    ),
    "aibrix_extproc_degraded_total": (
        "counter", ("strategy", "reason"),
        "Placements by a strategy that lacked something: no_readings, some_readings, no_history, no_caller,"
        " no_prefill.",
    ),
    "aibrix_extproc_gauge_readings": (
        "gauge", ("state",),
        "Ready endpoints by their last reading of metrics: fresh, stale (30 s or older), none; absent until needed.",
    ),
    "aibrix_extproc_gauge_failures_total": ("counter", (), "Metrics pages of engines that could not be read."),
    "aibrix_extproc_endpoints_cordoned": ("gauge", (), "Endpoints that get no new requests, by somebody's wish."),
    "aibrix_extproc_queue_length": (
        "gauge", ("model", "class"), "Requests that wait in the queue, for a slot of an engine or for their model.",
    ),
    "aibrix_extproc_queue_wait_seconds": (
        "histogram", ("class",), "How long requests waited in the queue that were placed from it.",
    ),
    "aibrix_extproc_shed_total": (
        "counter", ("reason",),
        "Requests that the queue refused: full, deadline, displaced (of a batch, by another one), shutdown.",
    ),
    "aibrix_extproc_waiting_for_wake": ("gauge", (), "Requests that wait for a sleeping model to wake."),
    "aibrix_extproc_control_ok": ("gauge", (), "1 if the control state of the metadata service is followed."),
    "aibrix_extproc_control_version": ("gauge", (), "Version of the control state that is in force."),
    "aibrix_extproc_control_age_seconds": (
        "gauge", (), "Time since the metadata service confirmed the control state; infinite if it never did.",
    ),
    "aibrix_extproc_fleet_known": ("gauge", (), "1 once every source has listed and every engine was asked."),
    "aibrix_extproc_fleet_source_ok": ("gauge", ("source",), "0 while a source's last good fleet is used."),
    "aibrix_extproc_fleet_age_seconds": (
        "gauge", ("source",), "Since the last event of the cluster; a quiet one has one each minute.",
    ),
    "aibrix_extproc_fleet_unusable": (
        "gauge", ("source",), "Objects of the cluster that something is wrong with; /readyz names them.",
    ),
    "aibrix_extproc_publisher_leads": (
        "gauge", (), "1 in the replica that writes the EndpointSlices; absent without --publish-service.",
    ),
    "aibrix_extproc_published_endpoints": ("gauge", (), "Endpoints in our EndpointSlices, written by any replica."),
    "aibrix_extproc_publisher_age_seconds": (
        "gauge", (), "Since the EndpointSlices were last known to be as the fleet is, or another replica to see to it.",
    ),
    "aibrix_extproc_publisher_errors_total": ("counter", (), "Rounds of writing EndpointSlices that have failed."),
    "aibrix_extproc_large_bodies": (
        "gauge", (), "Large JSON bodies that are read or wait for the reader process; 256 at most.",
    ),
    "aibrix_extproc_key_file_ok": ("gauge", (), "0 while the last good keys are used, or none; absent without a file."),
    "aibrix_extproc_note_keys_ok": (
        "gauge", (), "0 while the last good note keys are used; absent without a file.",
    ),
    "aibrix_extproc_limited_total": (
        "counter", ("limit",), "Requests that a limit refused, by the name of the limit.",
    ),
    "aibrix_extproc_limit_warnings_total": (
        "counter", ("limit",), "Requests beyond a soft limit, by the name of the limit.",
    ),
    "aibrix_extproc_limit_counters": ("gauge", (), "Counters of limits and reservations in memory."),
    "aibrix_extproc_limits_redis_ok": (
        "gauge", (), "0 while Redis cannot be asked for limits; absent without Redis.",
    ),
    "aibrix_extproc_limits_gateways": ("gauge", (), "Live gateways that share limits; absent without Redis."),
    "aibrix_extproc_limits_admitted_alone": (
        "gauge", (), "Requests that were admitted without Redis since the start; absent without Redis.",
    ),
    "aibrix_extproc_limits_unsettled": (
        "gauge", (), "Settlements that were dropped because too many waited for Redis; absent without Redis.",
    ),
    "aibrix_extproc_limits_mended": (
        "gauge", (), "Counters in Redis that held something else, and began anew; absent without Redis.",
    ),
    "aibrix_extproc_certificate_ok": (
        "gauge", (), "0 while the files are broken and an earlier certificate is used; absent without TLS.",
    ),
    "aibrix_extproc_certificate_expiry_timestamp_seconds": (
        "gauge", (), "When the certificate in use ends, since the epoch; absent without TLS.",
    ),
}  # fmt: skip


class Metrics(MetricRegistry):
    """All metrics of a gateway."""

    def __init__(self) -> None:
        super().__init__(METRICS)
        self._exchanges = self._counters["aibrix_extproc_exchanges_total"]
        phases = self.distribution("aibrix_extproc_phase_seconds", _PHASE_BUCKETS)
        self._by_phase = {phase: phases.of(phase.value) for phase in Phase}
        self._heads = self.distribution("aibrix_extproc_response_head_seconds", _WAIT_BUCKETS)
        self._prefills = self.distribution("aibrix_extproc_prefill_seconds", _WAIT_BUCKETS).of()
        self._queued = self.distribution("aibrix_extproc_queue_wait_seconds", _WAIT_BUCKETS)
        self._totals = self.distribution("aibrix_extproc_exchange_seconds", _WAIT_BUCKETS)
        self.late = self.distribution("aibrix_extproc_loop_delay_seconds", _DELAY_BUCKETS).of().observe
        self.missed_first_token = self.distribution(
            "aibrix_extproc_predicted_ttft_error_seconds", _WAIT_BUCKETS
        ).of().observe  # fmt: skip
        series: tuple[Tally | Distribution, ...] = (*self._counters.values(), self._heads, self._totals)
        self._models = LabelSlots("model", MAX_MODELS, series, time.monotonic)
        self._callers = LabelSlots("caller", MAX_CALLERS, series, time.monotonic)

    def timed(self, phase: Phase, seconds: float) -> None:
        """Our own time for one message."""
        self._by_phase[phase].observe(seconds)

    def bug(self) -> None:
        """An unexpected exception."""
        self._counters["aibrix_extproc_internal_errors_total"].add(())

    def finished(self, fact: Finished) -> None:
        """Count one exchange, once."""
        model = self._model(fact)
        status = str(fact.status) if 0 <= fact.status < _STATUSES else OTHER
        self._exchanges.add((fact.operation, model, status, fact.outcome))
        if fact.problem is not None:
            self._counters["aibrix_extproc_problems_total"].add((fact.problem,))
        if fact.placement is not None and fact.placement.degraded:
            for lack in fact.placement.degraded:
                self._counters["aibrix_extproc_degraded_total"].add(lack)
        if fact.placement is not None and fact.assigned_to != fact.placement.first.identity:
            self._counters["aibrix_extproc_retried_total"].add((model,))
        self._observe_waits(fact, model)

    def _observe_waits(self, fact: Finished, model: str) -> None:
        if fact.started_at is None:
            return
        if fact.response_at is not None:
            self._heads.of(fact.operation, model).observe(fact.response_at - fact.started_at)
        self._totals.of(fact.operation, model).observe(fact.ended_at - fact.started_at)

    def charged(self, charge: Charge) -> None:
        """Count the charge of one exchange."""
        model = self._models.of(charge.model)
        self._count_usage(charge, model)
        volume = self._counters["aibrix_extproc_body_bytes_total"]
        volume.add((model, "in"), charge.bytes_in)
        volume.add((model, "out"), charge.bytes_out)
        if charge.end is not None:
            self._counters["aibrix_extproc_streams_total"].add((_operation(charge), model, charge.end.value))

    def _count_usage(self, charge: Charge, model: str) -> None:
        if charge.unmetered:
            self._counters["aibrix_extproc_unmetered_total"].add((_operation(charge), charge.unmetered))
            return
        caller = self._callers.of(charge.caller)
        if charge.usage is not None:
            tokens, usage = self._counters["aibrix_extproc_tokens_total"], charge.usage
            tokens.add((model, caller, "input"), usage.input_tokens)
            tokens.add((model, caller, "output"), usage.output_tokens)
            tokens.add((model, caller, "cached"), usage.cached_tokens)
        if charge.audio_seconds:
            self._counters["aibrix_extproc_audio_seconds_total"].add((model, caller), charge.audio_seconds)

    def waited_in_queue(self, kind: str, seconds: float) -> None:
        """A request that was placed from the queue."""
        self._queued.of(kind).observe(seconds)

    def shed(self, reason: str) -> None:
        """A request that the queue refused."""
        self._counters["aibrix_extproc_shed_total"].add((reason,))

    def prefilled(self, outcome: str, seconds: float) -> None:
        """Counts a decision about who computes a prompt; `seconds` is 0 where no prefill engine was asked."""
        self._counters["aibrix_extproc_prefill_total"].add((outcome,))
        if seconds:
            self._prefills.observe(seconds)

    def prefill_failed(self, reason: str) -> None:
        """A prefill engine did not compute a prompt."""
        self._counters["aibrix_extproc_prefill_failures_total"].add((reason,))

    def decided(self, strategy: str, reason: str) -> None:
        """A placement."""
        self._counters["aibrix_extproc_decision_total"].add((COMBINATION if ":" in strategy else strategy, reason))

    def found_cached(self, predicted: float, actual: float) -> None:
        """Tokens in the cache of an engine that answered."""
        self._counters["aibrix_extproc_prefix_predicted_tokens_total"].add((), predicted)
        self._counters["aibrix_extproc_prefix_actual_tokens_total"].add((), actual)

    def limited(self, limit: str) -> None:
        """A request that a limit refused."""
        self._counters["aibrix_extproc_limited_total"].add((limit,))

    def beyond_soft_limit(self, limit: str) -> None:
        """A request beyond a soft limit."""
        self._counters["aibrix_extproc_limit_warnings_total"].add((limit,))

    def malformed_record(self) -> None:
        """Counts an entry of the access log that could not be read."""
        self._counters["aibrix_extproc_access_log_malformed_total"].add(())

    def _model(self, fact: Finished) -> str:
        return "" if fact.placement is None else self._models.of(fact.placement.model)

    def refused_record(self, reason: str) -> None:
        """An entry of the access log that does not prove that it is ours."""
        self._counters["aibrix_extproc_access_log_refused_total"].add((reason,))

    def refused_peer(self, reason: str) -> None:
        """A connection or a stream of a peer."""
        self._counters["aibrix_extproc_port_refusals_total"].add((reason,))

    def watch_names(self, is_model: Callable[[str], bool], callers: Callable[[], Container[str]]) -> None:
        """Give label places only to models and callers that there are."""
        self._models.exists = is_model
        self._callers.exists = lambda name: name in callers()

    def exposition(self) -> bytes:
        """The page that Prometheus reads."""
        self._models.review()
        self._callers.review()
        return super().exposition()


def _operation(charge: Charge) -> str:
    return charge.operation if charge.operation in _OPERATION_IDS else OTHER
