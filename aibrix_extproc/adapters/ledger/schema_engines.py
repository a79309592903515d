"""The tables of work on engines that one process does for all: its lease, what became of adapters, who asked to wake.

Times are seconds of the database's clock since the epoch.
"""

from typing import Final

from sqlalchemy import Column, Float, String, Table, Text

from aibrix_extproc.adapters.ledger.schema import lease_columns, metadata

# Work that one process at a time does for the whole installation.
leases: Final = Table("leases", metadata, Column("name", String(64), primary_key=True), *lease_columns())

# What became of each adapter on each engine, and which of them we loaded.
adapter_states: Final = Table(
    "adapter_states",
    metadata,
    Column("adapter", String(256), primary_key=True),
    Column("identity", String(256), primary_key=True),
    Column("state", Text, nullable=False),  # JSON of core/operations/placed.py
)

# Models and adapters that requests wait for.
demands: Final = Table(
    "demands",
    metadata,
    Column("model", String(256), primary_key=True),
    Column("first_at", Float, nullable=False),  # 0: nobody waits
    Column("last_at", Float, nullable=False),
    Column("took_seconds", Float),  # from the demand to the model being served, the last time
)
