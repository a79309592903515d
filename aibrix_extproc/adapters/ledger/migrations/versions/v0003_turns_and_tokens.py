"""Turns of callers and batches, and tokens that wait."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0003"
down_revision: Final = "0002"


def upgrade() -> None:
    """When somebody was served last, and how much a batch has enqueued."""
    for table in ("storage", "batches"):
        op.add_column(table, sa.Column("served_at", sa.Float(), server_default="0", nullable=False))
    op.add_column("batches", sa.Column("enqueued_tokens", sa.BigInteger(), server_default="0", nullable=False))
