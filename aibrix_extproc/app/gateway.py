"""Composition root of `aibrix-extproc serve`: one process, one event loop, everything wired here."""

import asyncio
import logging
import random
import signal
import socket
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

import uvloop

from aibrix_extproc import __version__
from aibrix_extproc.adapters.accesslog.receive import METHOD as ACCESS_LOG_METHOD
from aibrix_extproc.adapters.accesslog.receive import AccessLogReceiver
from aibrix_extproc.adapters.bodyreader.reader import BodyReader
from aibrix_extproc.adapters.engine.poller import EnginePoller
from aibrix_extproc.adapters.engine.watcher import PollPace
from aibrix_extproc.adapters.extproc.session import Machine, Session
from aibrix_extproc.adapters.fleetfile.parse import parse_flag
from aibrix_extproc.adapters.fleetfile.source import FlagSource, FleetFile
from aibrix_extproc.adapters.http.admin import AdminServer
from aibrix_extproc.adapters.telemetry import logs, metrics
from aibrix_extproc.adapters.telemetry.loop_delay import watch_loop
from aibrix_extproc.app.answers import Answers
from aibrix_extproc.app.config_log import ConfigLog
from aibrix_extproc.app.contradictions import refuse_contradictions
from aibrix_extproc.app.credentials import Credentials
from aibrix_extproc.app.default_key import with_default_key
from aibrix_extproc.app.descriptors import raise_descriptor_limit
from aibrix_extproc.app.desk import GatewayDesk
from aibrix_extproc.app.exchange_policy import exchange_policy
from aibrix_extproc.app.fixture import fixtures
from aibrix_extproc.app.fleet_page import fleet_page
from aibrix_extproc.app.fleet_store import FleetStore
from aibrix_extproc.app.health_log import HealthLog
from aibrix_extproc.app.key_store import KeyStore
from aibrix_extproc.app.listening import StartError, bounds_of, listening_at
from aibrix_extproc.app.memory import keep_freed_memory, leave_out_of_collection
from aibrix_extproc.app.note_seals import NoteSeals
from aibrix_extproc.app.ports import ClusterSource, EndpointSource, Publisher
from aibrix_extproc.app.traffic import EngineTraffic
from aibrix_extproc.app.transports import TRANSPORTS
from aibrix_extproc.core.exchange.machine import Exchange
from aibrix_extproc.core.fleet.load import LoadBook
from aibrix_extproc.core.fleet.reduce import SourceChange
from aibrix_extproc.core.placing import ATTEMPTS
from aibrix_extproc.core.routing.owners import ResponseOwners
from aibrix_extproc.core.routing.place import Placer, Ranking
from aibrix_extproc.core.routing.signals import Signals
from aibrix_extproc.settings import Settings, Tls
from aibrix_extproc.watched.errors import SourceError
from aibrix_extproc.watched.file import SourceStatus

if TYPE_CHECKING:
    from aibrix_extproc.app.certificate_store import CertificateStore

logger = logging.getLogger(__name__)

EXIT_SETTINGS = 2
MAX_REMARKS = 100  # on the health page; the log has them all


def run_gateway(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT; 0 after an orderly end."""
    logs.configure(settings.log.level, settings.log.format)
    keep_freed_memory()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(settings))
    except StartError as error:
        print(f"aibrix-extproc: {error}", file=sys.stderr)  # noqa: T201 (the last word to whoever started us)
        return EXIT_SETTINGS
    return 0


async def _serve(settings: Settings) -> None:
    gateway = Gateway(settings)  # built inside the loop that its servers belong to
    leave_out_of_collection()  # modules above all: looking at them takes a full collection 50 ms
    await gateway.run()


class Gateway:
    """All parts of one gateway process."""

    def __init__(self, settings: Settings) -> None:
        refuse_contradictions(settings)
        self._settings = settings
        self._policy = exchange_policy(settings)
        self._status: dict[str, SourceStatus] = {}
        self._once_good: set[str] = set()  # sources
        self._publishing: tuple[SourceStatus, ...] = ()
        self._cluster: ClusterSource | None = None
        self._load = LoadBook()
        self._metrics = metrics.Metrics()
        self._draining = False
        self._new_exchange: Callable[[], Machine] = partial(Exchange, self._policy)
        if settings.picker.test_mode:
            self._new_exchange = fixtures(self._policy, lambda: self._store.askable)
        sources = self._sources()
        self._store = FleetStore(source.name for source in sources)
        self._store.subscribe(HealthLog().told)
        self._configs = ConfigLog(settings.routing.strategy)
        self._store.subscribe(self._configs.told)
        self._endpoint_sources = sources
        self._publisher = self._endpoint_publisher()
        self._keys = KeyStore(settings.access)
        self._traffic = EngineTraffic(lambda: self._store.snapshot, time.perf_counter)
        self._store.subscribe(self._traffic.forget)
        self._poller = self._engine_poller()
        self._seals = self._note_seals()
        self._body_reader = BodyReader(media_hosts=settings.limits.media_hosts)
        self._desk = self._gateway_desk()
        transport = TRANSPORTS[settings.server.transport]
        access_log = AccessLogReceiver(
            self._metrics.charged,
            self._metrics.malformed_record,
            logs.log_record if settings.log.exchanges else None,
            admit=self._seals.admit,
        )
        self._server = transport(
            self._new_session,
            max_body_bytes=settings.limits.max_body_bytes,
            bounds=bounds_of(settings.server, raise_descriptor_limit()),
            inlets={ACCESS_LOG_METHOD: access_log.take},
            on_refusal=lambda refusal: self._metrics.refused_peer(refusal.value),
        )
        self._admin = AdminServer(
            metrics=lambda: (self._metrics.exposition(), metrics.CONTENT_TYPE),
            health=self._health,
            fleet=lambda: fleet_page(self._store.snapshot, self._load.in_flight),
            version=__version__,
        )
        self._certificate = self._certificate_store()
        self._feed_gauges()

    def _gateway_desk(self) -> GatewayDesk:
        settings = self._settings
        owners = ResponseOwners(self._seals.secrets)
        self._seals.subscribe(owners.use_secrets)
        # Also where a list has one address: a gateway that goes elsewhere by itself is followed.
        ranking = Ranking(settings.routing.strategy, max(ATTEMPTS, settings.routing.destinations))
        answers = Answers(
            snapshot=lambda: self._store.snapshot,
            keys=lambda: self._keys.ring,
            placer=Placer(Signals(self._load, random.random), owners, ranking, time.time),
            clock=time.perf_counter,
            wall_clock=time.time,
        )
        answers.credentials = Credentials(lambda: self._seals.secrets, time.time)
        return GatewayDesk(
            answers,
            self._load,
            owners,
            self._metrics,
            look_soon=self._poller.look_soon,
            log_every_exchange=settings.log.exchanges,
            reader=self._body_reader,
        )

    def _feed_gauges(self) -> None:
        """Let the metrics read what is true at each scrape."""
        self._metrics.watch_fleet(lambda: self._store.snapshot, self._load.in_flight, self._sources_ok)
        self._metrics.watch_large_bodies(lambda: self._body_reader.waiting)
        if self._cluster is not None:
            self._metrics.watch_cluster(self._cluster.name, self._cluster.age_seconds, lambda: len(self._remarks()))
        if self._certificate is not None:
            store = self._certificate
            self._metrics.watch_certificate(lambda: store.ok, lambda: store.wall_expires_at)
        self._metrics.watch_port(lambda: self._server.connections, lambda: self._server.running)
        self._metrics.watch_names(lambda name: name in self._store.snapshot.by_model, lambda: self._keys.ring.callers)
        if self._settings.metering.note_keys is not None:
            self._metrics.watch_note_keys(lambda: self._seals.ok)
        if self._settings.access.key_file is not None:
            self._metrics.watch_key_file(lambda: self._keys.status is not None and self._keys.status.ok)

    def _sources(self) -> tuple[EndpointSource, ...]:
        fleet = self._settings.fleet
        found: list[EndpointSource] = []
        if fleet.file is not None:
            found.append(FleetFile(fleet.file, self._on_status))
        if fleet.endpoints:
            try:
                found.append(FlagSource([parse_flag(value) for value in fleet.endpoints], self._on_status))
            except SourceError as error:
                raise StartError(str(error)) from error
        if self._settings.kubernetes.enabled:
            self._cluster = self._cluster_source()
            found.append(self._cluster)
        if not found:
            raise StartError(
                "no engines: name a fleet file (--fleet FILE), engines (--endpoint http://HOST:PORT), or --kubernetes "
                "(with `picker`: --pool-name NAME)"
            )
        return tuple(found)

    def _cluster_source(self) -> ClusterSource:
        with _kubernetes("--kubernetes"):
            from aibrix_extproc.adapters.kube.source import KubernetesSource

            return KubernetesSource(self._settings.kubernetes, self._on_status)

    def _endpoint_publisher(self) -> Publisher | None:
        kubernetes = self._settings.kubernetes
        if kubernetes.publish_service is None:
            return None
        with _kubernetes("--publish-service"):
            from aibrix_extproc.adapters.kube.publish import EndpointPublisher

            publisher = EndpointPublisher(
                kubernetes,
                lambda: self._store.snapshot,
                self._on_publisher_status,
                host=socket.gethostname(),
                on_error=self._metrics.publishing_failed,
            )
        self._store.subscribe(lambda _: publisher.wake())
        self._metrics.watch_publisher(lambda: publisher.leads, lambda: publisher.published, publisher.age_seconds)
        return publisher

    def _certificate_store(self) -> "CertificateStore | None":
        server = self._settings.server
        if server.tls is Tls.NONE:
            return None
        from aibrix_extproc.app.certificate_store import CertificateStore  # 11 MB that plaintext does not need

        try:
            return CertificateStore(server)
        except SourceError as error:
            raise StartError(str(error)) from error

    def _note_seals(self) -> NoteSeals:
        try:
            return NoteSeals(self._settings.metering.note_keys, time.time, self._metrics.refused_record)
        except SourceError as error:
            raise StartError(str(error)) from error

    def _remarks(self) -> Mapping[str, str]:
        return {} if self._cluster is None else self._cluster.remarks()

    def _new_session(self) -> Session:
        return Session(
            self._desk,
            self._new_exchange(),
            time.perf_counter,
            _make_id,
            assume_duplex=self._settings.picker.assume_duplex,
            seal=self._seals.seal,
            traffic=self._traffic,
        )

    async def run(self) -> None:
        """Start every part, serve, drain."""
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        await self._listen()
        try:
            async with asyncio.TaskGroup() as tasks:
                running = [tasks.create_task(source.run(self._emit)) for source in self._endpoint_sources]
                running.append(tasks.create_task(self._keys.run()))
                running.append(tasks.create_task(self._seals.run()))
                if self._certificate is not None:
                    running.append(tasks.create_task(self._certificate.run()))
                running.append(tasks.create_task(self._poller.run()))
                running.append(tasks.create_task(watch_loop(self._metrics.late)))
                running.append(tasks.create_task(self._become_ready()))
                publishing = [] if self._publisher is None else [tasks.create_task(self._publisher.run())]
                await stop.wait()
                self._draining = True
                for task in publishing:
                    task.cancel()  # before the drain, which may last: another replica goes on
                server = self._settings.server
                await self._server.drain(notice_seconds=server.drain_notice_seconds, drain_seconds=server.drain_seconds)
                for task in running:
                    task.cancel()
        finally:
            self._body_reader.stop()
            await self._admin.stop()
        logger.info("stopped")

    async def _listen(self) -> None:
        server, admin = self._settings.server, self._settings.admin
        credentials = None if self._certificate is None else self._certificate.credentials
        listening = {"admin": await listening_at(self._admin.start, admin.host, admin.port, "admin")}
        try:
            start = partial(self._server.start, credentials=credentials)
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

    def _engine_poller(self) -> EnginePoller:
        fleet = self._settings.fleet
        pace = PollPace(interval_seconds=fleet.poll_seconds, timeout_seconds=fleet.poll_timeout_seconds)
        poller = EnginePoller(lambda: self._store.askable, self._store.apply, pace=pace, traffic=self._traffic)
        self._store.subscribe(lambda _: poller.wake())
        return poller

    async def _become_ready(self) -> None:
        await self._keys.wait_known()
        snapshot = await self._store.wait_known()
        logger.info("fleet known", extra={"endpoints": len(snapshot.endpoints), "models": len(snapshot.models)})
        leave_out_of_collection()  # a thousand engines and their connections: a full collection would take 25 ms
        if not self._draining:
            await self._server.set_ready(True)

    def _emit(self, change: SourceChange) -> None:
        self._store.apply(with_default_key(change, self._settings.fleet.engine_api_key))

    def _on_status(self, status: SourceStatus) -> None:
        self._status[status.source] = status
        if status.ok:
            self._once_good.add(status.source)
            logger.info("fleet source is good", extra={"source": status.source})
            return
        kept = status.source in self._once_good
        then = "is broken, the last good fleet stays in use" if kept else "cannot be used, not ready until it can"
        logger.error(f"fleet source {then}", extra={"source": status.source, "error": status.error})

    def _on_publisher_status(self, status: SourceStatus) -> None:
        self._publishing = (status,)
        if status.ok:
            logger.info("endpoints are published")
        else:
            logger.error("endpoints cannot be published, what is published stays", extra={"error": status.error})

    def _sources_ok(self) -> Mapping[str, bool]:
        return {name: status.ok for name, status in self._status.items()}

    def _health(self) -> tuple[bool, Mapping[str, object]]:
        ready = self._store.known and self._keys.known and not self._draining
        report: dict[str, object] = {
            "ready": ready,
            "fleet_known": self._store.known,
            "draining": self._draining,
            "streams": self._server.running,
            "degraded": not all(status.ok for status in (*self._status.values(), *self._publishing)),
            "keys": self._keys.report(),
            "note_keys": self._seals.report(),
            "sources": {
                name: {"ok": status.ok, "error": status.error, "since": status.wall_since}
                for name, status in self._status.items()
            },
        }
        if self._certificate is not None:
            report["certificate"] = self._certificate.report()
        if self._configs.remarks:
            report["configs"] = dict(islice(self._configs.remarks.items(), MAX_REMARKS))
        if self._cluster is not None:
            remarks = self._remarks()
            report["cluster"] = {
                "age_seconds": round(self._cluster.age_seconds(), 3),
                "unusable": len(remarks),
                "remarks": dict(islice(remarks.items(), MAX_REMARKS)),
            }
        if self._publisher is not None:
            report["publisher"] = self._publisher.report()
        return ready, report


@contextmanager
def _kubernetes(flag: str) -> Iterator[None]:
    """What may be wrong when a part that speaks with Kubernetes is made, as one sentence."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "kubernetes":
            raise
        raise StartError(f"{flag} needs an extra: in the clone run pip install -e '.[kubernetes]'") from error
    except SourceError as error:
        raise StartError(str(error)) from error


def _make_id() -> str:
    return str(uuid.uuid4())
