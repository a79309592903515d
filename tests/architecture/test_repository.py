"""What is committed works anywhere: no path of one machine, no address of one package registry."""

import re
from pathlib import Path

import pytest

from tests.architecture.sources import shown, tracked

# Written in parts, so that this file does not hold what it looks for.
REGISTRY_HOSTS = tuple(
    ".".join(parts)
    for parts in (
        ("pypi", "org"), ("pythonhosted", "org"), ("npmjs", "org"), ("npmjs", "com"), ("crates", "io"),
        ("proxy", "golang", "org"), ("conda", "anaconda", "org"), ("rubygems", "org"), ("repo1", "maven", "org"),
    )
)  # fmt: skip
MACHINE_PATHS = tuple("/" + name for name in ("work", "root", "Users", "home"))

_HOST = re.compile("|".join(re.escape(host) for host in REGISTRY_HOSTS), re.IGNORECASE)
_PATH = re.compile(rf"(?<![\w.}}:/*-])(?:{'|'.join(MACHINE_PATHS)})/[\w.-]+")


def texts() -> list[tuple[Path, str]]:
    found = []
    for path in tracked():
        content = path.read_bytes()
        if b"\0" not in content:
            found.append((path, content.decode("utf-8")))
    return found


def places(pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{shown(path, number)} {match[0]}"
        for path, text in texts()
        for number, line in enumerate(text.splitlines(), 1)
        if (match := pattern.search(line))
    ]


def test_no_file_names_the_host_of_a_package_registry() -> None:
    assert places(_HOST) == []


def test_no_file_names_a_place_of_one_machine() -> None:
    assert places(_PATH) == []


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (f'x = "{MACHINE_PATHS[0]}/main/x"', True),
        (f"cd {MACHINE_PATHS[1]}/.cache", True),
        (f"file in {MACHINE_PATHS[2]}/me", True),
        (f"https://host{MACHINE_PATHS[0]}/main", False),
        ("/v1/models", False),
        ("net" + MACHINE_PATHS[0] + "ing", False),
    ],
)
def test_place_of_a_machine_would_be_found(line: str, found: bool) -> None:
    assert bool(_PATH.search(line)) is found


def test_text_files_end_with_a_line_break_and_hold_no_carriage_returns() -> None:
    wrong = [shown(path) for path, text in texts() if text and (not text.endswith("\n") or "\r" in text)]
    assert wrong == []
