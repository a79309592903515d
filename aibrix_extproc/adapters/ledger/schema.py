"""The tables. A change here needs a migration in `migrations/versions`; a test holds both to one schema.

Times are whole seconds since the epoch. Every object has an owner, `caller`, and every query of a client names it.
"""

from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    false,
)

metadata: Final = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def lease_columns() -> tuple[Column[Any], ...]:
    """A lease: who works on the row, until when by the database's clock, and how often it was taken."""
    return (
        Column("fence", BigInteger, nullable=False, server_default="0"),
        Column("owner", String(80)),
        Column("lease_until", Float, nullable=False, server_default="0"),
    )


# What each caller has stored, kept with every change, so that a quota is one indexed row.
storage: Final = Table(
    "storage",
    metadata,
    Column("caller", String(256), primary_key=True),
    Column("files", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("served_at", Float, nullable=False, server_default="0"),  # a shard of a batch of the caller's was begun
)

files: Final = Table(
    "files",
    metadata,
    Column("id", String(80), primary_key=True),
    Column("caller", String(256), nullable=False),
    Column("purpose", String(32), nullable=False),
    Column("filename", String(255), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Column("lost", Boolean, nullable=False, server_default=false()),  # a blob of its content is not there any more
    Index("ix_files_page", "caller", "created_at", "id"),
    Index("ix_files_expiry", "expires_at"),
)

file_segments: Final = Table(
    "file_segments",
    metadata,
    Column("file_id", String(80), ForeignKey("files.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("blob", String(200), nullable=False),
    Column("size", BigInteger, nullable=False),
    Index("ix_file_segments_blob", "blob"),
)

uploads: Final = Table(
    "uploads",
    metadata,
    Column("id", String(80), primary_key=True),
    Column("caller", String(256), nullable=False),
    Column("purpose", String(32), nullable=False),
    Column("filename", String(255), nullable=False),
    Column("mime_type", String(128), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("status", String(16), nullable=False),
    Column("file_expires_after", Integer),
    Column("file_id", String(80)),
    Index("ix_uploads_expiry", "status", "expires_at"),
    Index("ix_uploads_unfinished", "caller", "status"),
)

upload_parts: Final = Table(
    "upload_parts",
    metadata,
    Column("id", String(80), primary_key=True),
    Column("upload_id", String(80), ForeignKey("uploads.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("size", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("blob", String(200), nullable=False, index=True),
)

batches: Final = Table(
    "batches",
    metadata,
    Column("id", String(80), primary_key=True),
    Column("caller", String(256), nullable=False),
    Column("endpoint", String(128), nullable=False),
    Column("model", String(256)),
    Column("input_file_id", String(80), nullable=False),
    Column("completion_window", String(16), nullable=False),
    Column("status", String(16), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    *(
        Column(name, BigInteger)
        for name in (
            "in_progress_at", "finalizing_at", "completed_at", "failed_at", "expired_at", "cancelling_at",
            "cancelled_at",
        )
    ),
    Column("metadata", Text),  # JSON as the client gave it
    Column("errors", Text),  # JSON list of validation errors
    Column("output_expires_after", Integer),  # seconds from the output file's creation
    Column("output_file_id", String(80)),
    Column("error_file_id", String(80)),
    *(
        Column(name, BigInteger, nullable=False, server_default="0")
        for name in ("total", "completed", "failed", "input_tokens", "cached_tokens", "output_tokens",
                     "reasoning_tokens")
    ),
    *lease_columns(),
    Column("served_at", Float, nullable=False, server_default="0"),  # a shard of it was begun
    Column("enqueued_tokens", BigInteger, nullable=False, server_default="0"),  # of all prompts, estimated
    Index("ix_batches_page", "caller", "created_at", "id"),
    Index("ix_batches_work", "status", "lease_until"),
    Index("ix_batches_unfinished", "caller", "status"),
)  # fmt: skip

# The bytes that a batch works on. They outlive the input file if a client deletes that.
batch_inputs: Final = Table(
    "batch_inputs",
    metadata,
    Column("batch_id", String(80), ForeignKey("batches.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("blob", String(200), nullable=False, index=True),
    Column("size", BigInteger, nullable=False),
)

# Runs of consecutive lines of the input; the unit that one worker holds.
batch_shards: Final = Table(
    "batch_shards",
    metadata,
    Column("batch_id", String(80), ForeignKey("batches.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("start", BigInteger, nullable=False),  # of its bytes in the input
    Column("end", BigInteger, nullable=False),
    Column("first_line", Integer, nullable=False),  # 1 is the first physical line
    Column("lines", Integer, nullable=False),  # requests in it; blank lines do not count
    Column("done", Boolean, nullable=False, server_default=false()),
    Column("output_blob", String(200)),
    Column("output_size", BigInteger, nullable=False, server_default="0"),
    Column("error_blob", String(200)),
    Column("error_size", BigInteger, nullable=False, server_default="0"),
    *lease_columns(),
    Index("ix_batch_shards_work", "done", "lease_until"),
    Index("ix_batch_shards_output_blob", "output_blob"),
    Index("ix_batch_shards_error_blob", "error_blob"),
)

# Committed results of a shard. Lines in them never run again.
batch_segments: Final = Table(
    "batch_segments",
    metadata,
    Column("batch_id", String(80), primary_key=True),
    Column("shard", Integer, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("blob", String(200), nullable=False, index=True),
    Column("size", BigInteger, nullable=False),
    ForeignKeyConstraint(
        ["batch_id", "shard"], ["batch_shards.batch_id", "batch_shards.number"], ondelete="CASCADE",
        name="fk_batch_segments_shard",
    ),
)  # fmt: skip

# What operators decided: cordons, callers, keys, limits, adapters, models. core/control says what a row is.
control_rows: Final = Table(
    "control_rows",
    metadata,
    Column("section", String(32), primary_key=True),
    Column("id", String(256), primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("data", Text, nullable=False),  # JSON; empty for a removed row
    Column("deleted", Boolean, nullable=False, server_default=false()),
    Column("unique_key", String(256)),  # no other row of the section has it
    Column("parent", String(256)),  # by which rows of a section are listed: the caller of a key
    Column("changed_at", Float, nullable=False),
    Index("ix_control_rows_version", "version", unique=True),
    Index("ix_control_rows_unique_key", "section", "unique_key", unique=True),
    Index("ix_control_rows_page", "section", "deleted", "id"),
    Index("ix_control_rows_parent", "section", "parent", "id"),
)

# One row. Every change takes the next version in its own transaction, so versions are committed in their order.
control_version: Final = Table(
    "control_version",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("history", String(32), nullable=False),  # random: versions of another database do not compare
    Column("version", BigInteger, nullable=False),
    Column("floor", BigInteger, nullable=False),  # removals up to this version are forgotten
)

# Operations that are applied to engines, core/operations/records.py.
operation_runs: Final = Table(
    "operation_runs",
    metadata,
    Column("id", String(80), primary_key=True),
    Column("caller", String(256), nullable=False),
    Column("idempotency_key", String(256)),
    Column("request", String(64), nullable=False),  # hash of what was asked for
    Column("spec", Text, nullable=False),  # JSON
    Column("status", String(16), nullable=False),
    Column("cancel_asked", Boolean, nullable=False, server_default=false()),
    Column("detail", Text, nullable=False, server_default=""),
    Column("created_at", Float, nullable=False),
    Column("started_at", Float),
    Column("ended_at", Float),
    *lease_columns(),
    Index("ix_operation_runs_page", "created_at", "id"),
    Index("ix_operation_runs_status", "status"),
    Index("ix_operation_runs_idempotency_key", "caller", "idempotency_key", unique=True),
)

operation_steps: Final = Table(
    "operation_steps",
    metadata,
    Column("run_id", String(80), ForeignKey("operation_runs.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("state", Text, nullable=False),  # JSON
)

operation_history: Final = Table(
    "operation_history",
    metadata,
    Column("run_id", String(80), ForeignKey("operation_runs.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("at", Float, nullable=False),
    Column("identity", String(256), nullable=False),
    Column("text", Text, nullable=False),
)

# What administrators and operators have changed, or tried to.
audit: Final = Table(
    "audit",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("at", Float, nullable=False),
    Column("caller", String(256), nullable=False),
    Column("key_id", String(256), nullable=False),
    Column("operation", String(64), nullable=False),
    Column("target", Text, nullable=False),  # JSON object
    Column("result", String(64), nullable=False),
    Column("request_id", String(128), nullable=False),
    Index("ix_audit_at", "at"),
    Index("ix_audit_caller", "caller", "id"),
    Index("ix_audit_operation", "operation", "id"),
)

_SERIES: Final = ("caller", "key_id", "model", "operation")


def _usage_sums() -> tuple[Column[Any], ...]:
    return (
        *(
            Column(name, BigInteger, nullable=False)
            for name in ("input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens")
        ),
        Column("audio_seconds", Float, nullable=False),
    )


# What each exchange cost. The id is the exchange's own, so a record that is sent twice is there once.
usage_records: Final = Table(
    "usage_records",
    metadata,
    Column("id", String(256), primary_key=True),
    Column("at", BigInteger, nullable=False),  # the request was placed
    Column("request_id", String(256), nullable=False),
    *(Column(name, String(256), nullable=False) for name in _SERIES),
    Column("status", Integer, nullable=False),
    Column("finish", String(256), nullable=False),
    Column("batch_id", String(256), nullable=False),
    *_usage_sums(),
    Column("duration_ms", BigInteger, nullable=False),
    Column("first_byte_ms", BigInteger, nullable=False),
    Column("estimated", Boolean, nullable=False),
    Index("ix_usage_records_at", "at"),
)

# Their sums by the hour and the day, changed in the transaction that adds a record.
usage_rollups: Final = Table(
    "usage_rollups",
    metadata,
    Column("width", Integer, primary_key=True),  # seconds
    Column("start", BigInteger, primary_key=True),
    Column("series", String(32), primary_key=True),  # digest of the columns that follow: they may be too long for a key
    *(Column(name, String(256), nullable=False) for name in _SERIES),
    Column("batch", Boolean, nullable=False),
    Column("requests", BigInteger, nullable=False),
    Column("failed", BigInteger, nullable=False),  # without a success that the client saw
    Column("estimated", BigInteger, nullable=False),
    *_usage_sums(),
)

# The last report of every gateway process: what it has applied of control_rows, and what its cordoned endpoints run.
gateways: Final = Table(
    "gateways",
    metadata,
    Column("replica", String(256), primary_key=True),
    Column("applied_version", BigInteger, nullable=False),
    Column("report", Text, nullable=False),  # JSON: exchanges by identity of an endpoint
    Column("seen_at", Float, nullable=False),
    Index("ix_gateways_seen_at", "seen_at"),
)
