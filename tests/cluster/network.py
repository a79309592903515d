"""A network of our own for a thread and all that it starts: no route leads out, and every pod's address is local."""

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

PODS: Final = "10.244.0.0/16"
NODE: Final = "10.244.0.1"
_NEW_NETWORK: Final = 0x40000000  # CLONE_NEWNET
_NEEDED: Final = ("ip", "unshare", "mount", "chroot", "openssl")


def missing() -> str:
    """What this machine lacks for it; empty: nothing."""
    if os.geteuid() != 0:
        return "network and mount namespaces need root"
    programs = [program for program in _NEEDED if shutil.which(program) is None]
    return f"not installed: {', '.join(programs)}" if programs else ""


@contextmanager
def own_network() -> Iterator[None]:
    """Enter it, and come back."""
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    _checked(libc.unshare(_NEW_NETWORK))
    try:
        for command in ("link set lo up", f"route add local {PODS} dev lo", f"addr add {NODE}/32 dev lo"):
            subprocess.run(["ip", *command.split()], check=True)
        yield
    finally:
        _checked(libc.setns(before, _NEW_NETWORK))
        os.close(before)


def _checked(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
