"""Colours are for terminals, and for those who want them."""

import sys
from pathlib import Path

import pytest

from tests.cli.terminal import at_a_terminal

pytestmark = pytest.mark.slow
SERVICE = "apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: b}\n"


@pytest.mark.parametrize(
    ("variables", "coloured"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)],
    ids=["plain", "no-color", "dumb"],
)
async def test_findings_are_coloured_at_a_terminal_that_wants_it(
    tmp_path: Path, variables: dict[str, str], coloured: bool
) -> None:
    file = tmp_path / "service.yaml"
    file.write_text(SERVICE)
    command = (sys.executable, "-m", "aibrix_extproc", "doctor", "--files", str(file))
    async with at_a_terminal(*command, **variables) as terminal:
        assert await terminal.ended() == 0
        assert "NOTE" in terminal.plain
        assert ("\x1b" in terminal.shown) is coloured
