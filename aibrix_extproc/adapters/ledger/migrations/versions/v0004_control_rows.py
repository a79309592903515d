"""Control state: what operators decided, with versions."""

import secrets
from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0004"
down_revision: Final = "0003"


def upgrade() -> None:
    """Rows, and the version that counts their changes."""
    op.create_table(
        "control_rows",
        sa.Column("section", sa.String(32), nullable=False),
        sa.Column("id", sa.String(256), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.Column("deleted", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("unique_key", sa.String(256)),
        sa.Column("changed_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("section", "id", name="pk_control_rows"),
    )
    op.create_index("ix_control_rows_version", "control_rows", ["version"], unique=True)
    op.create_index("ix_control_rows_unique_key", "control_rows", ["section", "unique_key"], unique=True)
    op.create_index("ix_control_rows_page", "control_rows", ["section", "deleted", "id"])
    version = op.create_table(
        "control_version",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("history", sa.String(32), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("floor", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_control_version"),
    )
    op.bulk_insert(version, [{"id": 1, "history": secrets.token_hex(16), "version": 0, "floor": 0}])
