"""The values of an Envoy configuration that differ between installations."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aibrix_extproc.core.openai.contract.headers import EXTPROC_NAMESPACE
from aibrix_extproc.core.placing import RETRIES

# Where our processor may leave values: `envoy.lb` is the endpoint picker protocol's, the other one is ours.
METADATA_NAMESPACES: Final = ("envoy.lb", EXTPROC_NAMESPACE)
ENDPOINTS_FILE: Final = "endpoints.json"
READINESS_SERVICE: Final = "readiness"  # the name that our gRPC health service answers for "send me exchanges"
MIB: Final = 1024 * 1024
# For an Envoy that reads our files.
STREAM_FILTER: Final = Path(__file__).with_name("stream_filter.lua")
ANSWER_FILTER: Final = Path(__file__).with_name("answer_filter.lua")
MAX_MESSAGE_SECONDS: Final = 60.0  # for which Envoy waits for a processor that asks for it


@dataclass(frozen=True, slots=True)
class SocketAddress:
    """An IP address and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class ProcessorTls:
    """How Envoy and the processors prove themselves to each other: PEM files that Envoy reads at its start."""

    ca: Path  # that has certified the processors
    server_name: str  # that their certificate must have
    certificate: Path  # Envoy's own
    key: Path


@dataclass(frozen=True, slots=True)
class EnvoySpec:
    """Everything that the configuration depends on; times are in seconds, sizes in bytes."""

    listen: SocketAddress
    admin: SocketAddress
    processors: tuple[SocketAddress, ...]  # gRPC addresses of the ext_proc workers
    endpoints_directory: Path  # holds ENDPOINTS_FILE, which is replaced by rename
    processor_tls: ProcessorTls | None = None  # plaintext without it
    metadata: SocketAddress | None = None  # the metadata service; files, uploads and batches are a 404 without it
    access_log: Path | None = None
    answer_filter: Path | None = ANSWER_FILTER  # the Lua files, where Envoy reads them; this one for the cluster
    stream_filter: Path | None = None
    access_log_service: bool = False  # report to the processors how each exchange ended
    access_log_flush: float = 1.0  # seconds until the report
    max_body_bytes: int = 50 * MIB
    message_timeout: float = 5.0  # per ext_proc message; running out of it in a request phase gives the JSON 503
    max_message_timeout: float = MAX_MESSAGE_SECONDS  # the same, where a processor asks for more
    retries: int = RETRIES  # after the first attempt, each at the next candidate
    connect_timeout: float = 1.0  # to an engine
    request_timeout: float = 300.0  # for the client to send its whole request
    headers_timeout: float = 30.0
    stream_idle_timeout: float = 3600.0  # a queued prompt is silent for long; only lost clients reach this
    # How long a client may take nothing while something waits for it; whole seconds, None to wait for ever. Linux only.
    # A client that reads slowly takes something now and then.
    stalled_reader_timeout: int | None = 30 if sys.platform == "linux" else None
    max_heap_bytes: int = 4096 * MIB

    @property
    def endpoints_file(self) -> Path:
        """The file that Envoy watches for engine addresses."""
        return self.endpoints_directory / ENDPOINTS_FILE
