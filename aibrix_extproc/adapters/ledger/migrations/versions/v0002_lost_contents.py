"""Files whose content is gone."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0002"
down_revision: Final = "0001"


def upgrade() -> None:
    """Mark a file whose blob the sweep did not find."""
    op.add_column("files", sa.Column("lost", sa.Boolean(), server_default=sa.false(), nullable=False))
