"""Reads the lock files: what is pinned, with which hashes, and on whose behalf."""

import re
import tomllib
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.architecture.sources import ROOT

RUNTIME = ROOT / "requirements.lock"
RUN = ROOT / "requirements-run.lock"
DEV = ROOT / "requirements-dev.lock"
BUILD = ROOT / "requirements-build.lock"
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
OURSELVES = "aibrix-extproc"


@dataclass(frozen=True, slots=True)
class Pin:
    """One package of a lock file."""

    requirement: Requirement
    hashes: tuple[str, ...]
    wanted_by: frozenset[str]

    @property
    def version(self) -> str:
        return str(self.requirement.specifier).removeprefix("==")

    @property
    def line(self) -> str:
        """The pin as pip reads it."""
        return " ".join([str(self.requirement), *(f"--hash={one}" for one in self.hashes)])

    @property
    def is_installed_for_any_machine(self) -> bool:
        """Whether this environment has the same version from a wheel that fits every machine."""
        try:
            found = distribution(self.requirement.name)
        except PackageNotFoundError:
            return False
        return found.version == self.version and "Tag: py3-none-any" in (found.read_text("WHEEL") or "")


def read(path: Path) -> dict[str, Pin]:
    """The pins by name."""
    pins: dict[str, Pin] = {}
    text, _, _ = path.read_text(encoding="utf-8").partition("\n# The following packages were excluded")
    for block in re.split(r"\n(?=\w)", text):
        head, *rest = [line.strip(" \\") for line in block.splitlines() if line.strip(" \\")]
        if head.startswith("#"):
            continue
        requirement = Requirement(head)
        hashes = tuple(line.removeprefix("--hash=") for line in rest if line.startswith("--hash="))
        comments = [line.removeprefix("#").removeprefix(" via").strip() for line in rest if line.startswith("#")]
        wanted_by = frozenset(canonicalize_name(line.partition(" ")[0].strip("#")) for line in comments if line)
        pins[canonicalize_name(requirement.name)] = Pin(requirement, hashes, wanted_by)
    return pins


def declared(lines: list[str]) -> dict[str, Requirement]:
    """Requirements of pyproject.toml by name."""
    return {canonicalize_name(one.name): one for one in map(Requirement, lines)}


def closure(pins: dict[str, Pin], wanted: set[str]) -> set[str]:
    """Some packages, and all that they need."""
    found = set(wanted)
    while more := {name for name, pin in pins.items() if name not in found and pin.wanted_by & found}:
        found |= more
    return found
