"""Reads the Dockerfile, and follows a stage's lines without Docker: in a folder that stands for the root."""

import json
import os
import re
import shlex
import shutil
import subprocess
import venv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pip

from tests.architecture.sources import ROOT, tracked

DOCKERFILE = ROOT / "Dockerfile"
# The folders that the Dockerfile makes; in a rehearsal they lie below another root.
_FOLDER = re.compile(r"(?<![\w./$-])/(?=(?:src|dist|opt)\b)")


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction of the file."""

    word: str
    value: str

    @property
    def words(self) -> list[str]:
        """The value of an instruction in exec form, or in shell form cut as the shell would."""
        return list(json.loads(self.value)) if self.value.startswith("[") else shlex.split(self.value)

    @property
    def is_exec_form(self) -> bool:
        return self.value.startswith("[")


@dataclass(frozen=True, slots=True)
class Stage:
    """One FROM and what follows."""

    name: str
    base: str
    instructions: tuple[Instruction, ...]

    def all(self, word: str) -> list[Instruction]:
        """The instructions with a word, in order."""
        return [one for one in self.instructions if one.word == word]

    def last(self, word: str) -> Instruction:
        """The one that counts."""
        return self.all(word)[-1]

    def variables(self, word: str) -> dict[str, str]:
        """What ENV, LABEL or ARG set."""
        pairs = (pair.partition("=") for one in self.all(word) for pair in one.words)
        return {name: value for name, _, value in pairs}


def instructions(text: str) -> list[Instruction]:
    """All instructions; comments are gone and continued lines are one."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    whole = re.sub(r"\\\n\s*", "", "\n".join(lines) + "\n")
    parts = (line.strip().partition(" ") for line in whole.splitlines() if line.strip())
    return [Instruction(word.upper(), value.strip()) for word, _, value in parts]


def read(text: str) -> tuple[list[Instruction], dict[str, Stage]]:
    """What stands before the first FROM, and the stages by name."""
    found = instructions(text)
    starts = [at for at, one in enumerate(found) if one.word == "FROM"]
    stages: dict[str, Stage] = {}
    for at, end in zip(starts, [*starts[1:], len(found)], strict=True):
        base, _, name = re.split(r"\s+(as)\s+", found[at].value, flags=re.IGNORECASE)
        stages[name] = Stage(name, base, tuple(found[at + 1 : end]))
    return found[: starts[0]], stages


def whole(stages: Mapping[str, Stage], name: str) -> Stage:
    """A stage with what it has from the stages that it is built on."""
    stage = stages[name]
    if stage.base not in stages:
        return stage
    below = whole(stages, stage.base)
    return Stage(name, below.base, below.instructions + stage.instructions)


class Rehearsal:
    """Follows the lines of stages in a folder, with a bare Python in place of the base image."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._folder = root
        venv.create(root / "python")
        # Our own pip, as new as that of a base image; the one that an old Python brings takes twice the time.
        (packages,) = (root / "python").glob("lib/python*/site-packages")
        shutil.copytree(Path(pip.__file__).parent, packages / "pip")
        # What builds is used once, so it is not worth compiling; the Dockerfile compiles what the image holds.
        self._variables = {"PATH": f"{root / 'python' / 'bin'}:{os.defpath}", "PIP_NO_COMPILE": "1"}

    def follow(self, stage: Stage) -> None:
        """Do what the stage says."""
        for one in stage.instructions:
            match one.word:
                case "WORKDIR":
                    self._folder = Path(self.placed(one.value))
                    self._folder.mkdir(parents=True)
                case "COPY" if not one.value.startswith("--from"):
                    *sources, target = one.words
                    self._copy(sources, self._folder / target)
                case "ENV" | "ARG":
                    for name, value in Stage("", "", (one,)).variables(one.word).items():
                        self._variables[name] = self.placed(value).replace("$PATH", self._variables["PATH"])
                    self._variables.pop("PIP_NO_CACHE_DIR", None)  # here a cache spares the registry and the time
                case "RUN":
                    self.run(["sh", "-ec", self.placed(one.value)])

    def placed(self, text: str) -> str:
        """Text with the folders where they lie in the rehearsal."""
        return _FOLDER.sub(f"{self.root}/", text)

    def command(self, words: Sequence[str], **more: str) -> list[str]:
        """A command with the variables of the image."""
        pairs = (f"{name}={value}" for name, value in (self._variables | more).items())
        return ["env", "--unset=PYTHONPATH", "--unset=VIRTUAL_ENV", *pairs, *words]

    def run(self, words: Sequence[str], *, code: int = 0, **more: str) -> str:
        """Run a command as one of the image; what it printed."""
        command = self.command(words, **more)
        done = subprocess.run(command, cwd=self._folder, capture_output=True, text=True, timeout=300)
        printed = done.stdout + done.stderr
        assert done.returncode == code, f"{shlex.join(words)} ended with {done.returncode}:\n{printed}"
        return printed

    def _copy(self, sources: Sequence[str], target: Path) -> None:
        for source in sources:
            found = [path for path in tracked() if path.is_relative_to(ROOT / source)]
            assert found, f"COPY {source}: there is no such file"
            for path in found:
                inner = path.relative_to(ROOT / source)
                into = target / inner if inner.parts else (target / path.name if target.is_dir() else target)
                into.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, into)
