"""What exchanges cost."""

from typing import Any, Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0008"
down_revision: Final = "0007"


def upgrade() -> None:
    """Records, and their sums by the hour and the day."""
    op.create_table(
        "usage_records",
        sa.Column("id", sa.String(256), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("request_id", sa.String(256), nullable=False),
        *_texts("caller", "key_id", "model", "operation"),
        sa.Column("status", sa.Integer(), nullable=False),
        *_texts("finish", "batch_id"),
        *_sums(),
        *_counts("duration_ms", "first_byte_ms"),
        sa.Column("estimated", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_usage_records"),
    )
    op.create_index("ix_usage_records_at", "usage_records", ["at"])
    op.create_table(
        "usage_rollups",
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("start", sa.BigInteger(), nullable=False),
        sa.Column("series", sa.String(32), nullable=False),
        *_texts("caller", "key_id", "model", "operation"),
        sa.Column("batch", sa.Boolean(), nullable=False),
        *_counts("requests", "failed", "estimated"),
        *_sums(),
        sa.PrimaryKeyConstraint("width", "start", "series", name="pk_usage_rollups"),
    )


def _texts(*names: str) -> list[sa.Column[Any]]:
    return [sa.Column(name, sa.String(256), nullable=False) for name in names]


def _counts(*names: str) -> list[sa.Column[Any]]:
    return [sa.Column(name, sa.BigInteger(), nullable=False) for name in names]


def _sums() -> list[sa.Column[Any]]:
    tokens = _counts("input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens")
    return [*tokens, sa.Column("audio_seconds", sa.Float(), nullable=False)]
