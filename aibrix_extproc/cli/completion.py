"""`aibrix-extproc completion SHELL`: a script for the shell, which then completes commands and options."""

import argparse
import sys
from enum import Enum
from typing import Final

SHELLS: Final = ("bash", "zsh", "tcsh")
EXIT_LACKING: Final = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which shell."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("shell", choices=SHELLS, help="the shell to print for")
    parser.epilog = """Put the script where the shell looks for it, then start a new shell:
  bash  aibrix-extproc completion bash > ~/.local/share/bash-completion/completions/aibrix-extproc
        (needs the package bash-completion; without it: eval "$(aibrix-extproc completion bash)" in ~/.bashrc)
  zsh   aibrix-extproc completion zsh > DIRECTORY_OF_YOUR_FPATH/_aibrix-extproc
  tcsh  aibrix-extproc completion tcsh > FILE, and `source FILE` in ~/.tcshrc"""


def run(args: argparse.Namespace) -> int:
    """Print the script."""
    try:
        import shtab
    except ModuleNotFoundError:
        print(
            "aibrix-extproc: completion needs an extra: in the clone run pip install -e '.[terminal]'", file=sys.stderr
        )
        return EXIT_LACKING
    from aibrix_extproc.cli.main import parser_for

    print(shtab.complete(_completable(parser_for(None, whole=True)), args.shell))
    return 0


def _completable(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """The parser with its help as shtab understands it: paths complete to files, long usages are not needed."""
    import shtab

    choices = _choices()
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                _completable(inner)
        elif action.dest in choices:
            action.choices = choices[action.dest]
        elif action.metavar in ("FILE", "DIR", "PATH") or action.dest in ("kubeconfig",):
            action.complete = shtab.DIRECTORY if action.metavar == "DIR" else shtab.FILE  # type: ignore[attr-defined]
    return parser


def _choices() -> dict[str, list[str]]:
    """The values that settings of few values have."""
    from aibrix_extproc.core.routing.registry import STRATEGIES
    from aibrix_extproc.settings import Settings

    found = {"routing.strategy": list(STRATEGIES)}
    for group, declared in Settings.model_fields.items():
        fields = declared.annotation.model_fields if declared.annotation else {}
        for name, one in fields.items():
            if isinstance(one.annotation, type) and issubclass(one.annotation, Enum):
                found[f"{group}.{name}"] = [str(value.value) for value in one.annotation]
    return found
