"""Ports for servers that start later, or again: the kernel gives them to nobody else.

A port that `bind` to 0 has given may be given to another server once it is closed. Those below the range that the
kernel chooses from are taken by those only who ask for them.
"""

import itertools
import os
import random
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final

LOWEST: Final = 10_000
_RANGE: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_port() -> int:
    """A port on which nobody listens; this process gets each of them once."""
    global _of_this_process
    pid, ports = _of_this_process
    if pid != os.getpid():  # a fork, which must not choose what its siblings do
        pid, ports = _of_this_process = os.getpid(), _ports()
    return next(port for port in ports if _is_free(port))


def _ports() -> Iterator[int]:
    """Ports one after another, from one that chance chose."""
    end = int(_RANGE.read_text().split()[0]) if _RANGE.exists() else 32_768
    size = end - LOWEST
    first = random.SystemRandom().randrange(size)
    return (LOWEST + (first + step) % size for step in itertools.count())


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


_of_this_process: tuple[int, Iterator[int]] = (0, iter(()))
