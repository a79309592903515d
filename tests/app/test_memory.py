"""Memory that large messages took is kept for the next ones."""

import platform
import subprocess
import sys

import pytest

_COUNT_FAULTS = """
import resource
from aibrix_extproc.app.memory import keep_freed_memory
assert keep_freed_memory()
def large():
    pieces = [bytes(256_000), bytes(220_000)]
    return b"".join(pieces)
large()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(200):
    large()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc gives memory back so eagerly: run it on one")
def test_large_allocations_take_no_page_faults_once_the_allocator_was_told() -> None:
    counted = subprocess.run([sys.executable, "-c", _COUNT_FAULTS], capture_output=True, text=True, check=True)
    assert int(counted.stdout) < 400  # it is above 20,000 without
