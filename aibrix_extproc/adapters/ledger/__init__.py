"""The ledger: durable state of the metadata service in SQLite or PostgreSQL, through SQLAlchemy Core."""
