"""The parts of the package `kubernetes` that are used: they find a cluster and speak to it.

Its two outermost `__init__` modules import everything else of it, a second client included: 267 modules, 10 MiB and
half a second of CPU in each process. So these two are put in place without being run. Where the parts do not load
without them, as may be in a later version, the package is imported as usual.
"""

import importlib
import importlib.util
import sys
from collections.abc import Iterable
from importlib.machinery import PathFinder
from typing import Final

_PARTS: Final = (
    "kubernetes.aio.client.configuration",
    "kubernetes.aio.client.rest",
    "kubernetes.aio.config.kube_config",
)


def _load_parts() -> None:
    if "kubernetes" in sys.modules:
        return
    try:
        outer = _place("kubernetes", None)
        _place("kubernetes.aio", outer)
        for name in _PARTS:
            importlib.import_module(name)
    except (ImportError, AttributeError):
        for name in [name for name in sys.modules if name.split(".")[0] == "kubernetes"]:
            del sys.modules[name]


def _place(name: str, search: Iterable[str] | None) -> list[str]:
    """Make a package known without running its `__init__`; returns where its modules are."""
    spec = PathFinder.find_spec(name, None if search is None else list(search))
    if spec is None or spec.submodule_search_locations is None:
        raise ImportError(name)
    sys.modules[name] = importlib.util.module_from_spec(spec)
    return list(spec.submodule_search_locations)


_load_parts()

from kubernetes.aio.client.configuration import Configuration as Configuration  # noqa: E402
from kubernetes.aio.client.rest import RESTClientObject as RESTClientObject  # noqa: E402
from kubernetes.aio.config import ConfigException as ConfigException  # noqa: E402
from kubernetes.aio.config import load_incluster_config as load_incluster_config  # noqa: E402
from kubernetes.aio.config import load_kube_config as load_kube_config  # noqa: E402
from kubernetes.aio.config.kube_config import (  # noqa: E402
    KUBE_CONFIG_DEFAULT_LOCATION as KUBE_CONFIG_DEFAULT_LOCATION,
)
