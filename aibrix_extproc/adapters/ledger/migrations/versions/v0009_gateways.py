"""Reports of gateways."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0009"
down_revision: Final = "0008"


def upgrade() -> None:
    """One row for each process."""
    op.create_table(
        "gateways",
        sa.Column("replica", sa.String(256), nullable=False),
        sa.Column("applied_version", sa.BigInteger(), nullable=False),
        sa.Column("report", sa.Text(), nullable=False),
        sa.Column("seen_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("replica", name="pk_gateways"),
    )
    op.create_index("ix_gateways_seen_at", "gateways", ["seen_at"])
