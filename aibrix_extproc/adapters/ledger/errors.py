"""Failures of the database, for code that waits for it: SQLAlchemy itself is imported in this room only."""

from typing import Final

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, ProgrammingError, SQLAlchemyError

DatabaseError = SQLAlchemyError  # every failure
CONTENT_ERRORS: Final = (DataError,)  # the database works, and will never take these values
STATEMENT_ERRORS: Final = (DataError, IntegrityError, ProgrammingError)  # the database works and refuses a statement


def is_full(error: Exception) -> bool:
    """Whether the database has no room left."""
    return isinstance(error, DBAPIError) and "is full" in str(error.orig)
