"""Composition root of `aibrix-extproc metadata`: ledger, blob store, API, batch worker and sweeps in one process."""

import logging
import os
import random
import secrets
import socket
import time
from collections.abc import Mapping
from functools import partial
from typing import Final

import aiohttp

from aibrix_extproc import __version__
from aibrix_extproc.adapters.blobs.store import BlobError, BlobStore
from aibrix_extproc.adapters.engine.client import engine_session
from aibrix_extproc.adapters.engineops.client import EngineOps
from aibrix_extproc.adapters.http.admin import AdminServer
from aibrix_extproc.adapters.ledger.batches import BatchLedger
from aibrix_extproc.adapters.ledger.control import ControlLedger
from aibrix_extproc.adapters.ledger.database import Database, LedgerError
from aibrix_extproc.adapters.ledger.files import FileLedger
from aibrix_extproc.adapters.ledger.quotas import Quota, QuotaLedger
from aibrix_extproc.adapters.ledger.uploads import UploadLedger
from aibrix_extproc.adapters.ledger.work import WorkLedger
from aibrix_extproc.adapters.openai_http.internal import InternalRoutes
from aibrix_extproc.adapters.openai_http.server import ApiServer
from aibrix_extproc.app.frame import Frame, run_process, stop_signal
from aibrix_extproc.app.listening import StartError, listening_at
from aibrix_extproc.app.metadata import file_api, shard_runner, upload_api
from aibrix_extproc.app.metadata.batch_api import BatchApi
from aibrix_extproc.app.metadata.batch_events import BatchEvents
from aibrix_extproc.app.metadata.batch_steps import BatchSteps
from aibrix_extproc.app.metadata.batch_worker import BatchWorker
from aibrix_extproc.app.metadata.control_service import ControlService
from aibrix_extproc.app.metadata.engine_api import EngineApi
from aibrix_extproc.app.metadata.engine_control import EngineControl
from aibrix_extproc.app.metadata.engine_fleet import engine_fleet
from aibrix_extproc.app.metadata.engine_news import EngineNews
from aibrix_extproc.app.metadata.failures import with_storage_refusals
from aibrix_extproc.app.metadata.file_api import FileApi
from aibrix_extproc.app.metadata.following import Followers
from aibrix_extproc.app.metadata.gates import Gates
from aibrix_extproc.app.metadata.gateway_client import GatewayClient
from aibrix_extproc.app.metadata.limit_api import batch_limits
from aibrix_extproc.app.metadata.line_sender import LineSender
from aibrix_extproc.app.metadata.metrics import CONTENT_TYPE, MetadataMetrics
from aibrix_extproc.app.metadata.receiving import Receiver
from aibrix_extproc.app.metadata.run_service import RunService
from aibrix_extproc.app.metadata.secrets import SharedSecrets
from aibrix_extproc.app.metadata.shard_runner import ShardRunner
from aibrix_extproc.app.metadata.state_check import storage_checks
from aibrix_extproc.app.metadata.sweeping import Sweeper
from aibrix_extproc.app.metadata.upload_api import UploadApi
from aibrix_extproc.app.metadata.usage_service import UsageService
from aibrix_extproc.app.parts.part import Part
from aibrix_extproc.app.report import health_page
from aibrix_extproc.config_files.errors import SourceError
from aibrix_extproc.core.batches.validation import InputLimits
from aibrix_extproc.settings import Settings
from aibrix_extproc.settings.metadata import Role

logger = logging.getLogger(__name__)
PREFIXES: Final = (file_api.PREFIX, upload_api.PREFIX, shard_runner.PREFIX)


def run_metadata(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT; 0 after an orderly end."""

    async def serve() -> None:
        connector, cookies = aiohttp.TCPConnector(limit=0), aiohttp.DummyCookieJar()
        async with (
            aiohttp.ClientSession(connector=connector, cookie_jar=cookies) as session,
            engine_session() as engines,
        ):
            await MetadataService(settings, session, engines).run()

    return run_process(settings.log, serve)


class MetadataService:
    """All parts of one metadata process."""

    def __init__(self, settings: Settings, session: aiohttp.ClientSession, engines: aiohttp.ClientSession) -> None:
        self._settings = settings
        self._owner = f"{socket.gethostname()}-{os.getpid()}"
        own = settings.metadata
        data = own.data_dir.absolute()
        try:
            self._secrets = SharedSecrets(settings.metering.note_keys, own.gateway_url)
            self._fleet = engine_fleet(settings)
            self._blobs = BlobStore(own.blobs or f"file://{data / 'blobs'}")
            self._database = Database(own.database or f"sqlite:///{data / 'ledger.sqlite'}")
        except (BlobError, LedgerError, SourceError) as error:
            raise StartError(str(error)) from error
        quota = Quota(own.max_files, own.max_stored_bytes, own.max_pending_uploads, own.max_unfinished_batches)
        self._files, self._uploads = FileLedger(self._database, quota), UploadLedger(self._database, quota)
        self._batches, self._quotas = BatchLedger(self._database, quota), QuotaLedger(self._database, quota)
        self._gates = Gates(own.batch_requests_per_engine)
        self._control = ControlService(self._database, own.audit_days)
        self._storage = storage_checks(self._database, self._blobs)
        self._metrics = MetadataMetrics(self._gates, self._storage)
        self._usage = UsageService(self._database, settings.usage, self._metrics.counted_usage)
        self._worker = self._batch_worker(session)
        self._engine_ops, self._news = EngineOps(engines), self._engine_news()
        self._engine_control = EngineControl(settings, self._database, self._fleet, self._engine_ops, self._news)
        self._runs = RunService(
            self._database, self._fleet, self._engine_ops, self._news.tell, self._owner, own.lease_seconds
        )
        self._api = self._api_server()
        self._frame = Frame(self._parts())
        for part in self._frame.parts:
            part.register(self._metrics)
        self._admin = AdminServer(
            metrics=lambda: (self._metrics.exposition(), CONTENT_TYPE), health=self._health, fleet=dict,
            version=__version__,
        )  # fmt: skip

    def _batch_worker(self, session: aiohttp.ClientSession) -> BatchWorker:
        own = self._settings.metadata
        ledger = WorkLedger(self._database, self._owner, own.lease_seconds)
        gateway = GatewayClient(session, own.gateway_url, lambda: self._secrets.current, self._database.clock)
        limits = InputLimits(own.max_batch_requests, own.max_enqueued_tokens, own.max_batch_line_bytes)
        sender = LineSender(session, own.gateway_url, gateway.headers, self._gates, self._database.clock)
        shards = ShardRunner(ledger, self._blobs, sender, _new_key, limits.line_bytes)
        steps = BatchSteps(
            ledger, self._blobs, gateway.models, limits, partial(batch_limits, ControlLedger(self._database)),
            self._database.clock,
        )  # fmt: skip
        return BatchWorker(ledger, steps, shards, own.lease_seconds)

    def _api_server(self) -> ApiServer:
        receiver = Receiver(self._blobs, _new_key)
        entropy, most = secrets.token_bytes, self._settings.metadata.max_file_bytes
        batches = self._batches
        self._followers = Followers()
        handlers = {
            **FileApi(self._files, self._blobs, receiver, most, self._database.clock, entropy).handlers(),
            **UploadApi(self._uploads, self._files, self._blobs, receiver, self._database.clock, entropy).handlers(),
            **BatchEvents(batches, self._followers).handlers(),
            **BatchApi(batches, self._files, self._database.clock, entropy, self._worker.wake).handlers(),
            **self._control.handlers(),
            **self._usage.handlers(),
            **EngineApi(self._fleet, self._engine_ops, self._news.tell).handlers(),
            **self._engine_control.handlers(),
            **self._runs.handlers(self._followers),
        }
        routes = {**self._control.routes(), **self._usage.routes(), **self._engine_control.routes()}
        internal = InternalRoutes(routes, lambda: self._secrets.current, time.time)
        return ApiServer(
            with_storage_refusals(self._control.audited(handlers)),
            keys=lambda: self._secrets.current,
            observe=self._metrics.answered,
            internal=internal,
        )

    def _engine_news(self) -> EngineNews:
        renew = self._fleet.engines.renew if self._fleet is not None else _nothing
        return EngineNews(self._control.ledger, renew, partial(secrets.token_hex, 16), self._database.clock)

    def _parts(self) -> list[Part]:
        own = self._settings.metadata
        parts: list[Part] = [*self._storage, self._secrets, self._control.feed]
        if self._fleet is not None:
            parts.append(self._fleet)
        if own.role is not Role.API:
            sweeper = Sweeper(
                self._files, self._uploads, self._quotas, self._blobs, PREFIXES, own.sweep_seconds, own.orphan_seconds,
                self._database.clock, random.random,
            )  # fmt: skip
            parts += [self._worker, sweeper, self._usage.sweeper(), self._control.sweep()]
            parts += self._engine_control.parts()
            if self._runs.executor is not None:
                parts.append(self._runs.executor)
        return parts

    async def run(self) -> None:
        """Open the storage, listen, run every part."""
        stop = stop_signal()
        try:
            await self._database.open()
            await self._blobs.check()
        except (LedgerError, BlobError) as error:
            raise StartError(str(error)) from error
        try:
            await self._listen()
            await self._frame.run(stop)
        finally:
            self._followers.close()
            await self._api.stop()
            await self._admin.stop()
            await self._database.close()
        logger.info("stopped")

    async def _listen(self) -> None:
        own, admin = self._settings.metadata, self._settings.admin
        listening = {"admin": await listening_at(self._admin.start, admin.host, admin.port, "admin")}
        if own.role is not Role.WORKER:
            listening["api"] = await listening_at(self._api.start, own.host, own.port, "the metadata API")
        logger.info("listening", extra={**listening, "database": self._database.shown, "blobs": self._blobs.shown})

    def _health(self) -> tuple[bool, Mapping[str, object]]:
        return health_page(self._frame, {"role": self._settings.metadata.role.value})


def _new_key(prefix: str) -> str:
    """A key that nobody has used; two levels, so that a local folder stays small."""
    name = secrets.token_hex(16)
    return f"{prefix}/{name[:2]}/{name}"


def _nothing(identity: str) -> None:
    """Without a fleet there is no engine to ask."""
