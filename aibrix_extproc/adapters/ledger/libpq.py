"""URLs of PostgreSQL as libpq, psql and clouds write them, for asyncpg behind SQLAlchemy.

SQLAlchemy gives every parameter of a URL to `asyncpg.connect` by its name, which knows few of libpq's. asyncpg reads
them in a URL of its own, its `dsn`, so they go there.
"""

from typing import Any, Final
from urllib.parse import urlencode

import sqlalchemy

# https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS, as far as asyncpg reads them.
_OF_THE_DSN: Final = (
    "sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl", "sslpassword", "sslnegotiation",
    "ssl_min_protocol_version", "ssl_max_protocol_version", "target_session_attrs", "passfile", "krbsrvname", "gsslib",
)  # fmt: skip
# Those of which nothing is lost when they are left out, because we have an answer of our own.
_OURS: Final = ("application_name", "connect_timeout", "fallback_application_name")


def split(url: sqlalchemy.URL) -> tuple[sqlalchemy.URL, dict[str, Any]]:
    """The URL without libpq's parameters, and the arguments for the driver in their place."""
    query = dict(url.query)
    given = [(name, query.pop(name)) for name in _OF_THE_DSN if name in query]
    for name in _OURS:
        query.pop(name, None)
    # Of a parameter that stands twice the last one counts, as for libpq.
    last = [(name, value if isinstance(value, str) else value[-1]) for name, value in given]
    return url.set(query=query), {"dsn": f"postgresql://?{urlencode(last)}"} if last else {}
