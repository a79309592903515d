"""A file system whose server never answers, as that of a network that is gone: everything asked of it hangs."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_NOSUID_NODEV = 6
_DETACH = 2


@contextmanager
def dead_mount(folder: Path) -> Iterator[Path]:
    """Mounted on `folder`; what hangs gets an error at the end."""
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        server = os.open("/dev/fuse", os.O_RDWR)
    except OSError as error:
        pytest.skip(f"needs FUSE: {error.strerror}; run it as root where /dev/fuse is")
    options = f"fd={server},rootmode=40000,user_id=0,group_id=0".encode()
    try:
        if libc.mount(b"dead", str(folder).encode(), b"fuse", _NOSUID_NODEV, options) != 0:
            pytest.skip(f"may not mount: {os.strerror(ctypes.get_errno())}; run it as root")
        try:
            yield folder
        finally:
            libc.umount2(str(folder).encode(), _DETACH)
    finally:
        os.close(server)  # the kernel lets go of everybody who waits
