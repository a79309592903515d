"""Memory of a process that answers within a millisecond: nothing may stop it to tidy up.

The C library gives memory back to the kernel after each large message, only to ask for it again: receiving 220 KB took
140 page faults, more than half of all CPU on the lean transport, a quarter on grpcio. `keep_freed_memory` ends that.
The price: up to 32 MiB that are not needed now stay with the process. Only glibc is like that.
All functions are for a whole process, so the composition root calls them.
"""

import ctypes
import gc
from typing import Final

_TRIM_THRESHOLD: Final = -1  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of <malloc.h>
_MMAP_THRESHOLD: Final = -3
KEPT_BYTES: Final = 32 * 1024 * 1024  # the most that glibc takes for the second

YOUNG_OBJECTS: Final = 10_000  # as many as 300 exchanges make at a time


def keep_freed_memory() -> bool:
    """Tell the allocator of this process; False where there is nothing to tell."""
    try:
        tell = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    return bool(tell(_MMAP_THRESHOLD, KEPT_BYTES)) and bool(tell(_TRIM_THRESHOLD, KEPT_BYTES))


def leave_out_of_collection() -> None:
    """Let the garbage collector never look again at what is here now, since it stays; all exchanges wait while it does.

    What of it is dropped later, and is part of a cycle, is not freed: so not for what comes and goes.
    """
    gc.collect()
    gc.freeze()


def collect_rarely() -> None:
    """Let the garbage collector run once for thousands of new objects, where it ran for 700.

    An exchange leaves no cycles, so a run finds nothing but the exchanges of the moment, and looks at all of them.
    """
    _, *older = gc.get_threshold()
    gc.set_threshold(YOUNG_OBJECTS, *older)
