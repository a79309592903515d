"""Rows of control state by their parents."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0010"
down_revision: Final = "0009"


def upgrade() -> None:
    """Keys are listed by their callers."""
    op.add_column("control_rows", sa.Column("parent", sa.String(256)))
    op.create_index("ix_control_rows_parent", "control_rows", ["section", "parent", "id"])
