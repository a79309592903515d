"""The acceptance cases of the inference interface: each has a test with its id in its name, against a real Envoy."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.architecture.sources import tree

TESTS: Final = Path(__file__).parents[1]
# Group and how many cases it has.
CASES: Final = {
    "auth": 10, "hdr": 9, "url": 14, "req": 30, "chat": 18, "comp": 2, "resp": 9, "emb": 6, "rer": 1, "aud": 6,
    "tok": 1, "err": 22, "mod": 8,
}  # fmt: skip
# Not there yet: rate limits, quotas and the shedding of retries.
OWED: Final = {"hdr_04", "err_10", "err_11", "err_12", "err_18"}
_ID: Final = re.compile(rf"(?:^|_)({'|'.join(CASES)})((?:_\d\d)+)(?=[_-]|$)")


def names(*directories: str) -> Iterator[str]:
    """Of tests, and of the values that they are run with."""
    for directory in directories:
        for path in sorted((TESTS / directory).rglob("*.py")):
            for node in ast.walk(tree(path)):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                    yield node.name
                elif isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value) < 40:
                    yield node.value


def test_every_case_has_a_test() -> None:
    wanted = {f"{group}_{number:02}" for group, count in CASES.items() for number in range(1, count + 1)}
    found = {
        f"{group}_{number}"
        for name in names("dataplane", "adapters/envoyproxy", "sdks")
        for group, numbers in _ID.findall(name)
        for number in numbers.strip("_").split("_")
    }
    assert wanted - found == OWED
