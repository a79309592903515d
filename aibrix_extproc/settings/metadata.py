"""The metadata service: where it listens and keeps its state, and how much callers may store."""

from enum import StrEnum
from pathlib import Path

from pydantic import Field

from aibrix_extproc.settings.fields import MIB, Group, Name, Port, Seconds, flag


class Role(StrEnum):
    """What a metadata process does."""

    ALL = "all"
    API = "api"
    WORKER = "worker"


class MetadataSettings(Group):
    """The metadata service, `aibrix-extproc metadata`: files, uploads and batches."""

    enabled: bool = Field(
        False, description="the gateway hands files, uploads and batches to it; Envoy's configuration needs its route",
        json_schema_extra=flag("--metadata"),
    )  # fmt: skip
    host: str = Field("127.0.0.1", description="address to listen on")
    port: Port = Field(9010, description="port of the API, for Envoy alone")
    data_dir: Path = Field(
        Path("aibrix-data"), description="folder of the database and the blobs, where nothing else is said",
        json_schema_extra=flag("--data"),
    )  # fmt: skip
    database: Name | None = Field(
        None,
        description="sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME; a file in data_dir without it. Several"
        " replicas need PostgreSQL",
        json_schema_extra=flag("--database"),
    )
    blobs: Name | None = Field(
        None,
        description="file:///FOLDER, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX; a folder in"
        " data_dir without it. Credentials come from the cloud's own environment variables",
        json_schema_extra=flag("--blobs"),
    )
    role: Role = Field(
        Role.ALL, description="all, api (answers requests) or worker (runs batches and sweeps)",
        json_schema_extra=flag("--role"),
    )  # fmt: skip
    gateway_url: Name = Field(
        "http://127.0.0.1:8080", description="Envoy's listener, through which lines of batches are sent",
        json_schema_extra=flag("--gateway-url"),
    )  # fmt: skip
    max_file_bytes: int = Field(512 * MIB, ge=1, description="largest file that is sent in one request")
    max_files: int = Field(100_000, ge=1, description="files that one caller may store")
    max_stored_bytes: int = Field(
        100 * 1024 * MIB, ge=1, description="bytes that one caller may store, with those of pending uploads"
    )
    max_pending_uploads: int = Field(
        1000, ge=1, description="uploads of one caller that are neither complete nor cancelled nor expired"
    )
    max_unfinished_batches: int = Field(1000, ge=1, description="batches of one caller that have not ended")
    max_batch_requests: int = Field(50_000, ge=1, description="requests in one batch")
    max_batch_line_bytes: int = Field(10 * MIB, ge=1024, description="bytes of one line of a batch")
    max_enqueued_tokens: int = Field(
        0, ge=0,
        description="tokens, estimated, that the batches of one caller may have enqueued for one model; 0: no limit",
    )  # fmt: skip
    batch_requests_per_engine: int = Field(
        32, ge=1, le=10_000,
        description="lines of batches for one model that run at once at most, for each of its engines; fewer if other"
        " requests are there or an engine refuses",
    )  # fmt: skip
    lease_seconds: float = Field(
        15.0, ge=1.0, le=300.0,
        description="how long a process that has died keeps what it worked on, in seconds; a live one renews five times"
        " in that time",
    )  # fmt: skip
    max_adapters_per_engine: int = Field(
        0, ge=0,
        description="LoRA adapters that an engine may have loaded; beyond it lazy ones are unloaded for others; 0: no"
        " limit",
    )  # fmt: skip
    sweep_seconds: Seconds = Field(300.0, description="how often expired files and orphaned blobs are looked for")
    audit_days: int = Field(400, ge=1, le=36_500, description="how long entries of the audit are kept")
    orphan_seconds: Seconds = Field(
        86_400.0, description="age from which a blob that no object refers to is removed; longer than any upload lasts"
    )
