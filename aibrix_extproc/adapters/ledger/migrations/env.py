"""Runs migrations on the connection that `migrate.upgrade` hands over."""

from alembic import context

from aibrix_extproc.adapters.ledger.schema import metadata

context.configure(
    connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True,
    transaction_per_migration=False,
)  # fmt: skip
context.run_migrations()
