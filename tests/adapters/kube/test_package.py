"""Of the package `kubernetes` only what is used is imported; where that does not work, all of it is."""

import json
import os
import subprocess
import sys
from pathlib import Path

LOOK = """
import json, sys
import aibrix_extproc.adapters.kube.package as package
print(json.dumps([sorted(sys.modules), package.Configuration.__module__]))
"""

# A version in which a part needs what an outer package defines.
LATER = {
    "kubernetes/__init__.py": "",
    "kubernetes/aio/__init__.py": "MARK = 1",
    "kubernetes/aio/client/__init__.py": "",
    "kubernetes/aio/client/configuration.py": "from kubernetes.aio import MARK\nclass Configuration: pass",
    "kubernetes/aio/client/rest.py": "class RESTClientObject: pass",
    "kubernetes/aio/config/__init__.py": "load_incluster_config = load_kube_config = None\n"
    "class ConfigException(Exception): pass",
    "kubernetes/aio/config/kube_config.py": "KUBE_CONFIG_DEFAULT_LOCATION = '/'",
}


def imported(*first: Path) -> tuple[set[str], str]:
    """The modules of a process that imports the package, and where its Configuration is from."""
    path = os.pathsep.join(map(str, (*first, Path(__file__).parents[3])))
    done = subprocess.run([sys.executable, "-c", LOOK], env={"PYTHONPATH": path}, check=True, capture_output=True)
    modules, origin = json.loads(done.stdout)
    return set(modules), origin


def test_only_the_parts_that_are_used_are_imported() -> None:
    modules, origin = imported()
    assert origin == "kubernetes.aio.client.configuration"
    assert modules & {"kubernetes.client", "kubernetes.config", "kubernetes.aio.dynamic", "requests"} == set()
    assert len({name for name in modules if name.startswith("kubernetes")}) < 30


def test_later_version_whose_parts_need_the_outer_packages_is_imported_whole(tmp_path: Path) -> None:
    for name, text in LATER.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    modules, origin = imported(tmp_path)
    assert origin == "kubernetes.aio.client.configuration"
    assert "kubernetes.aio" in modules
