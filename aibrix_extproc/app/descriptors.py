"""File descriptors: as many as this process may have, and some that connections of the ext_proc port never get.

Without descriptors nothing can be accepted, the admin port included, and no file or engine can be looked at.
"""

import logging
import resource
from typing import Final

logger = logging.getLogger(__name__)

ENGINES_SHARE: Final = 4  # a quarter stays for polls of engines, the admin port and files
LEAST_RESERVE: Final = 64
MOST_RESERVE: Final = 16_384  # ten thousand engines with a connection each, and some


def raise_descriptor_limit() -> int:
    """Raise this process's soft limit to the hard one; the limit then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):  # macOS has a bound of its own below an infinite hard limit
            return soft
    return hard


def reserve_of(limit: int) -> int:
    """The number of descriptors that connections of the ext_proc port never get."""
    return min(max(limit // ENGINES_SHARE, LEAST_RESERVE), MOST_RESERVE)


def connections_that_fit(wanted: int, limit: int) -> int:
    """The number of connections that may be open at once: as many as wanted, or fewer with a warning."""
    if limit in (resource.RLIM_INFINITY, -1):
        return wanted
    room = max(limit - reserve_of(limit), 1)
    if wanted > room:
        logger.warning(
            "too few file descriptors for server.max_connections: fewer connections are let in; raise `ulimit -n`",
            extra={"limit": limit, "wanted": wanted, "let_in": room},
        )
    return min(wanted, room)
