"""Composition root of `aibrix-extproc serve`: one process, one event loop, everything wired here."""

import logging
import os
import random
import secrets
import socket
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from typing import cast

from aibrix_extproc import __version__
from aibrix_extproc.adapters.accesslog.receive import METHOD as ACCESS_LOG_METHOD
from aibrix_extproc.adapters.accesslog.receive import AccessLogReceiver
from aibrix_extproc.adapters.extproc.interfaces import Machine
from aibrix_extproc.adapters.extproc.service import ExtProcServer
from aibrix_extproc.adapters.extproc.session import Session
from aibrix_extproc.adapters.http.admin import AdminServer
from aibrix_extproc.adapters.internal_api.client import InternalClient
from aibrix_extproc.adapters.spool.ring import SpoolError
from aibrix_extproc.adapters.telemetry import metrics
from aibrix_extproc.app.authenticator import Authenticator
from aibrix_extproc.app.body_reading import BodyReading
from aibrix_extproc.app.conflicts import refuse_conflicts
from aibrix_extproc.app.control_parts import api_keys, control_parts, follow_news
from aibrix_extproc.app.credentials import Credentials
from aibrix_extproc.app.decisions import Decisions
from aibrix_extproc.app.descriptors import raise_descriptor_limit
from aibrix_extproc.app.directory import Directory
from aibrix_extproc.app.dispatch import Dispatcher, Observer, handlers
from aibrix_extproc.app.engine_load import EngineLoad, LoadCount
from aibrix_extproc.app.exchange_policy import exchange_policy, longest_wait_seconds
from aibrix_extproc.app.explaining import Explainer
from aibrix_extproc.app.fixture import fixtures
from aibrix_extproc.app.fleet_parts import fleet_parts
from aibrix_extproc.app.frame import Frame, run_process, stop_signal
from aibrix_extproc.app.health_log import HealthLog
from aibrix_extproc.app.interfaces import Interfaces
from aibrix_extproc.app.listening import StartError, bounds_of, listening_at
from aibrix_extproc.app.memory import collect_rarely, keep_freed_memory, leave_out_of_collection
from aibrix_extproc.app.observers import learner, observers
from aibrix_extproc.app.parts.bodies import LargeBodies
from aibrix_extproc.app.parts.configs import ConfigLog
from aibrix_extproc.app.parts.engines import Engines
from aibrix_extproc.app.parts.hand_over import HandOver
from aibrix_extproc.app.parts.keys import KeyStore
from aibrix_extproc.app.parts.limits import Limits
from aibrix_extproc.app.parts.loop import LoopWatch
from aibrix_extproc.app.parts.part import Part
from aibrix_extproc.app.parts.prefills import LAST_WORD_SECONDS, Prefills
from aibrix_extproc.app.parts.seals import NoteSeals
from aibrix_extproc.app.parts.usage import UsageReporter
from aibrix_extproc.app.placing import Placing
from aibrix_extproc.app.queue_parts import request_queue
from aibrix_extproc.app.report import fleet_page, health_page
from aibrix_extproc.app.signal_parts import PrefixSeed, kv_events_part, sharing_part, signal_observers, signal_parts
from aibrix_extproc.app.traffic import EngineTraffic
from aibrix_extproc.app.transports import TRANSPORTS
from aibrix_extproc.app.wake_parts import wake_parts
from aibrix_extproc.config_files.errors import SourceError
from aibrix_extproc.core.access.limits.records import Record
from aibrix_extproc.core.control.rows import Section
from aibrix_extproc.core.control.state import ControlState
from aibrix_extproc.core.exchange.machine import Exchange
from aibrix_extproc.core.exchange.outputs import Assigned, Finished
from aibrix_extproc.core.exchange.policy import ExchangePolicy
from aibrix_extproc.core.exchange.records import Charge, ExchangeRecord
from aibrix_extproc.core.fleet.load import LoadBook
from aibrix_extproc.core.placing import ATTEMPTS
from aibrix_extproc.core.routing.owners import ResponseOwners
from aibrix_extproc.core.routing.place import Placer, Ranking
from aibrix_extproc.core.routing.ramps import Ramps
from aibrix_extproc.core.routing.signals import Need
from aibrix_extproc.settings import Settings, Tls
from aibrix_extproc.tls.credentials import ServerCredentials

logger = logging.getLogger(__name__)


def run_gateway(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT; 0 after an orderly end."""
    keep_freed_memory()
    collect_rarely()

    async def serve() -> None:
        gateway = Gateway(settings)  # built inside the loop that its servers belong to
        leave_out_of_collection()  # modules above all: looking at them takes a full collection 50 ms
        await gateway.run()

    return run_process(settings.log, serve)


class Gateway:
    """All parts of one gateway process. Raises StartError for settings that it cannot start with."""

    def __init__(self, settings: Settings) -> None:
        refuse_conflicts(settings)
        self._settings = settings
        self._load, self._batch_load = LoadBook(), LoadBook()
        self._metrics = metrics.Metrics()
        self._credentials: ServerCredentials | None = None
        try:
            self._seals = NoteSeals(settings.metering.note_keys, time.time, self._metrics.refused_record)
            self.store, of_fleet = fleet_parts(settings)
            certificate = self._certificate()
            self._control = ControlState()
            self._keys = KeyStore(settings.access, api=api_keys(settings.control, self._control))
            self._limits = self._limits_part()
            self._follow_limits(self._limits)
            self._usage = self._usage_reporter()
        except (SourceError, SpoolError) as error:
            raise StartError(str(error)) from error
        self._bodies = LargeBodies(settings.limits.media_hosts, longest_wait_seconds(settings.server))
        self._traffic = EngineTraffic(lambda: self.store.snapshot, time.perf_counter)
        self._engines = Engines(settings.fleet, self.store, self._traffic, self._load)
        self._sources, self._predicting, of_signals = signal_parts(
            self.store, self._load, self._engines.poll_soon, self._metrics
        )
        follow_news(self._control, self._engines.renew, self._predicting.renewed)
        self._sharing = self._sharing_parts()
        self._kv_events = kv_events_part(self.store, self._sources) if settings.routing.kv_events else None
        configs = ConfigLog(settings.routing.strategy)
        for on_change in (HealthLog().log_changes, self._traffic.forget):
            self.store.subscribe_changes(on_change)
        self.store.subscribe(configs.log_changes)
        self._wake = wake_parts(settings.control, self._control, self.store, self._load, lambda: self._seals.secrets)
        self._decisions = Decisions(settings.routing.decisions, time.time, self._metrics.decided)
        self._placer, owners = self._placement()
        waking = None if self._wake is None else self._wake.waking
        self._queue = request_queue(settings, self.store, self._load, self._sources, waking, self._metrics)
        self._prefills = Prefills(
            settings.disaggregation, longest_wait_seconds(settings.server), self._sources.predictor, self._load,
            self._decisions, self._engines.poll_soon, counts=self._metrics, clock=time.perf_counter,
        )  # fmt: skip
        self.dispatcher = self._dispatcher(owners)
        self._new_exchange = self._exchanges()
        self._server = self._ext_proc_server()
        control = self._control_parts()
        parts = (
            *of_fleet, *control, *([self._queue] if self._queue else []), self._keys, self._limits, self._seals,
            *certificate, configs, self._engines, *of_signals, *self._sharing,
            *([self._kv_events] if self._kv_events else []), self._bodies, self._prefills,
            LoopWatch(self._metrics.late), *([self._usage] if self._usage else []),
        )  # fmt: skip
        self._frame = Frame(parts)
        self._admin = self._admin_server()
        self._register(parts)

    def _limits_part(self) -> Limits:
        settings = self._settings
        return Limits(
            settings.rate_limits,
            settings.redis,
            lambda: self._keys.limits,
            lambda model: model in self.store.snapshot.by_model,
            metering=settings.metering.enabled,
            limited=self._metrics.limited,
            warned=self._metrics.beyond_soft_limit,
        )

    def _follow_limits(self, limits: Limits) -> None:
        if self._settings.control.url is not None:
            view = self._control.view(Section.LIMITS, cast("type[Record]", Record))
            view.subscribe(lambda _: limits.use_control(tuple(view.records.values())))

    def _certificate(self) -> list[Part]:
        if self._settings.server.tls is Tls.NONE:
            return []
        from aibrix_extproc.app.parts.certificate import CertificateStore  # 11 MB that plaintext does not need

        store = CertificateStore(self._settings.server)
        self._credentials = store.credentials
        return [store]

    def _usage_reporter(self) -> UsageReporter | None:
        settings = self._settings
        if settings.control.url is None or not settings.metering.enabled:
            return None
        replica = f"{socket.gethostname()}-{os.getpid()}"
        client = InternalClient(settings.control.url, replica, lambda: self._seals.secrets)
        return UsageReporter(settings.usage, client, self._limits.ratios)

    def _control_parts(self) -> list[Part]:
        usage = dict if self._wake is None else self._wake.use.usage
        waking = [] if self._wake is None else [self._wake.waking]
        parts = control_parts(
            self._settings.control, self._control, self.store, self._load, lambda: self._seals.secrets, usage
        )
        return [*waking, *parts]

    def _placement(self) -> tuple[Placer, ResponseOwners]:
        settings = self._settings
        owners = ResponseOwners(self._seals.secrets)
        self._seals.subscribe(owners.use_secrets)
        # Also where a list has one address: a gateway that goes elsewhere by itself is followed.
        ranking = Ranking(
            settings.routing.strategy,
            max(ATTEMPTS, settings.routing.destinations),
            settings.disaggregation.local_tokens,
        )
        ramps = Ramps(settings.routing.warm_up_seconds, time.monotonic, random.random)
        self.store.subscribe_changes(ramps.on_changes)
        return Placer(self._sources, owners, ranking, time.time, ramps), owners

    def _dispatcher(self, owners: ResponseOwners) -> Dispatcher:
        settings = self._settings
        self._engine_load = EngineLoad(lambda: self.store.snapshot, self._load, self._batch_load, secrets.token_hex(4))
        credentials = Credentials(lambda: self._seals.secrets, time.time)
        interfaces = Interfaces(lambda: self.store.snapshot, self._limits.limiter, exchange_policy(settings))
        return Dispatcher(
            handlers(
                Authenticator(lambda: self._keys.ring, time.time, credentials, self._limits.limiter),
                Directory(lambda: self.store.snapshot, interfaces),
                Placing(
                    self._placer,
                    lambda: self.store.snapshot,
                    time.perf_counter,
                    self._engine_load.describe,
                    self._queue,
                    self._decisions,
                    self._prefills,
                ),
                BodyReading(self._bodies.reader),
                self._limits.limiter,
                place_seconds=max(settings.control.wake_seconds, settings.queue.max_wait_seconds),
                prefills=self._prefills,
                prefill_seconds=settings.disaggregation.prefill_seconds + LAST_WORD_SECONDS,
            ),
            self._observers(owners),
            longest_wait_seconds=longest_wait_seconds(settings.server),
            timed=self._metrics.timed,
            bug=self._metrics.bug,
        )

    def _observers(self, owners: ResponseOwners) -> Sequence[Observer]:
        every, poll_soon = self._settings.log.exchanges, self._engines.poll_soon
        limiter = self._limits.limiter
        load = LoadCount(self._load, self._batch_load)
        rows = [
            *observers(
                load, owners, poll_soon, self._metrics,
                log_every=every, log_prefixes=self._settings.log.prefixes, limiter=limiter,
            )
        ]  # fmt: skip
        rows.insert(0, (Charge, learner(self._limits.ratios)))
        rows += signal_observers(self._sources, self._predicting)
        if self._kv_events is not None:
            rows.append((Assigned, self._kv_events.assigned))
        if self._decisions.most:
            rows += [(Finished, self._decisions.finished), (Charge, self._decisions.charged)]
        rows += [] if self._queue is None else self._queue.observers()
        if self._usage is not None:
            rows.append((Charge, self._usage.take))
        return rows if self._wake is None else [*rows, *self._wake.observers()]

    def _sharing_parts(self) -> list[Part]:
        routing = self._settings.routing
        parts: list[Part] = []
        if routing.state_file is not None:
            parts.append(HandOver(routing.state_file, self._sources.predictor))
        if not routing.share:
            return parts
        return [*parts, sharing_part(self._settings.redis, self.store, self._sources, self._predicting, self._seals)]

    @cached_property
    def _policy(self) -> ExchangePolicy:
        seed, needs = PrefixSeed(self._seals), self._sources.needs
        always = self._settings.log.prefixes
        return exchange_policy(self._settings, lambda: seed.value if always or needs(Need.PREFIX) else 0)

    def _exchanges(self) -> Callable[[], Machine]:
        if self._settings.picker.test_mode:
            return fixtures(self._policy, lambda: self.store.askable)
        return partial(Exchange, self._policy)

    def new_session(self) -> Session:
        """The exchange of a new stream."""
        return Session(
            self.dispatcher,
            self._new_exchange(),
            time.perf_counter,
            _make_id,
            assume_duplex=self._settings.picker.assume_duplex,
            seal=self._seals.seal,
            traffic=self._traffic,
        )

    def _ext_proc_server(self) -> ExtProcServer:
        settings = self._settings
        access_log = AccessLogReceiver(
            self.dispatcher.observe,
            self._metrics.malformed_record,
            self.dispatcher.observe if self.dispatcher.observes(ExchangeRecord) else None,
            admit=self._seals.admit,
            timed=self._usage is not None,
        )
        return TRANSPORTS[settings.server.transport](
            self.new_session,
            max_body_bytes=settings.limits.max_body_bytes,
            bounds=bounds_of(settings.server, raise_descriptor_limit()),
            inlets={ACCESS_LOG_METHOD: access_log.take},
            on_refusal=lambda refusal: self._metrics.refused_peer(refusal.value),
        )

    def _admin_server(self) -> AdminServer:
        return AdminServer(
            metrics=lambda: (self._metrics.exposition(), metrics.CONTENT_TYPE),
            health=self._health,
            fleet=lambda: fleet_page(self.store.snapshot, self._load.in_flight),
            version=__version__,
            explorer_origin=self._settings.admin.explorer_origin,
            explaining=Explainer(self._decisions, self._placer, lambda: self.store.snapshot, self._policy, time.time),
        )

    def _health(self) -> tuple[bool, Mapping[str, object]]:
        details = {"fleet_known": self.store.known, "streams": self._server.running}
        return health_page(self._frame, details)

    def _register(self, parts: tuple[Part, ...]) -> None:
        for part in parts:
            part.register(self._metrics)
        self._metrics.watch_names(lambda name: name in self.store.snapshot.by_model, lambda: self._keys.ring)
        self._metrics.gauge("aibrix_extproc_port_streams", lambda: self._server.running)
        if self._server.connections is not None:
            self._metrics.gauge("aibrix_extproc_port_connections", lambda: self._server.connections or 0)

    async def run(self) -> None:
        """Listen, run every part, drain."""
        stop, server = stop_signal(), self._settings.server

        async def drain() -> None:
            if self._queue is not None:
                self._queue.end_after(server.drain_notice_seconds + server.drain_seconds)
            await self._server.drain(notice_seconds=server.drain_notice_seconds, drain_seconds=server.drain_seconds)

        await self._listen()
        try:
            await self._frame.run(stop, on_known=self._become_ready, drain=drain)
        finally:
            await self._admin.stop()
        logger.info("stopped")

    async def _listen(self) -> None:
        server, admin = self._settings.server, self._settings.admin
        listening = {"admin": await listening_at(self._admin.start, admin.host, admin.port, "admin")}
        try:
            start = partial(self._server.start, credentials=self._credentials)
            listening["ext_proc"] = await listening_at(start, server.host, server.port, "ext_proc")
            if server.health_port is not None:
                at = server.host, server.health_port
                listening["health"] = await listening_at(self._server.start_health, *at, "health")
        except StartError:
            if "ext_proc" in listening:  # and its health port is not
                await self._server.drain(notice_seconds=0.0, drain_seconds=0.0)
            await self._admin.stop()
            raise
        logger.info("listening", extra={**listening, "tls": server.tls.value})

    async def _become_ready(self) -> None:
        leave_out_of_collection()  # a thousand engines and their connections: a full collection would take 25 ms
        await self._server.set_ready(True)


def _make_id() -> str:
    return str(uuid.uuid4())
