"""Operation runs: what is applied to engines, and how far it is."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0005"
down_revision: Final = "0004"


def upgrade() -> None:
    """Runs, their steps, their history."""
    op.create_table(
        "operation_runs",
        sa.Column("id", sa.String(80), nullable=False),
        sa.Column("caller", sa.String(256), nullable=False),
        sa.Column("idempotency_key", sa.String(256)),
        sa.Column("request", sa.String(64), nullable=False),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("cancel_asked", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("detail", sa.Text(), server_default="", nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("started_at", sa.Float()),
        sa.Column("ended_at", sa.Float()),
        sa.Column("fence", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("owner", sa.String(80)),
        sa.Column("lease_until", sa.Float(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_operation_runs"),
    )
    op.create_index("ix_operation_runs_page", "operation_runs", ["created_at", "id"])
    op.create_index("ix_operation_runs_status", "operation_runs", ["status"])
    names = ["caller", "idempotency_key"]
    op.create_index("ix_operation_runs_idempotency_key", "operation_runs", names, unique=True)
    for table, columns in (
        ("operation_steps", [sa.Column("state", sa.Text(), nullable=False)]),
        (
            "operation_history",
            [
                sa.Column("at", sa.Float(), nullable=False),
                sa.Column("identity", sa.String(256), nullable=False),
                sa.Column("text", sa.Text(), nullable=False),
            ],
        ),
    ):
        op.create_table(
            table,
            sa.Column("run_id", sa.String(80), nullable=False),
            sa.Column("number", sa.Integer(), nullable=False),
            *columns,
            sa.PrimaryKeyConstraint("run_id", "number", name=f"pk_{table}"),
            sa.ForeignKeyConstraint(
                ["run_id"], ["operation_runs.id"], ondelete="CASCADE", name=f"fk_{table}_run_id_operation_runs"
            ),
        )
