"""Uploads and batches by their callers and states."""

from typing import Final

from alembic import op

revision: Final = "0011"
down_revision: Final = "0010"


def upgrade() -> None:
    """What a caller has unfinished is counted with each upload and batch that it creates."""
    op.create_index("ix_uploads_unfinished", "uploads", ["caller", "status"])
    op.create_index("ix_batches_unfinished", "batches", ["caller", "status"])
