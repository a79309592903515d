"""How long tests wait: a short patience fails on a busy machine where nothing is wrong. For `test_shape.py`."""

import ast
from collections.abc import Iterator
from typing import Final

from tests.architecture.sources import called

LEAST_SECONDS: Final = 10
WAITS: Final = {"until", "eventually", "timeout", "wait_for", "ClientTimeout"}
# Where the end of the time is what is tested, or must come before another one does.
SHORT: Final = {
    "tests/test_waiting.py": "the deadline itself",
    "tests/dataplane/test_disaggregation.py": "before the prefill's own time is over",
    "tests/simulator/test_fault_injection.py": "a client that gives up",
    "tests/simulator/test_engine_behaviour.py": "before the usual keep-alive time is over",
    "tests/http2/rig.py": "a client that is closed may be left",
    "tests/cluster/probes.py": "a probe, which is asked again",
    "tests/cluster/test_metadata.py": "before Envoy gives a frozen gateway up",
}


def short_waits(module: ast.Module) -> Iterator[int]:
    """Lines of calls that wait less than `LEAST_SECONDS`, as far as a number says so."""
    for node in ast.walk(module):
        if not isinstance(node, ast.Call) or _waiting(node) not in WAITS:
            continue
        given = [one.value for one in node.keywords if one.arg in ("seconds", "total", "timeout")]
        given += node.args[1:2] if called(node) == "wait_for" else node.args[:1] if called(node) == "timeout" else []
        if any(isinstance(one, ast.Constant) and _is_short(one.value) for one in given):
            yield node.lineno


def _waiting(node: ast.Call) -> str:
    """What is called, in a thread or not."""
    return called(node.args[0]) if called(node) == "to_thread" and node.args else called(node)


def _is_short(value: object) -> bool:
    return isinstance(value, int | float) and value < LEAST_SECONDS
