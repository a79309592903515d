"""Compiles protos/ into the package; hatchling calls it for every build and editable install."""

import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).resolve().parent.parent
ADAPTERS = ROOT / "aibrix_extproc" / "adapters"
# file -> the adapter that it belongs to
SOURCES = {
    "envoy/service/ext_proc/v3/external_processor.proto": "extproc",
    "envoy/service/accesslog/v3/als.proto": "accesslog",
}


def compile_protos(adapters: Path = ADAPTERS) -> None:
    """Write NAME_pb2.py and its type stub into each adapter's _generated."""
    from grpc_tools import protoc

    well_known = files("grpc_tools") / "_proto"
    for source, adapter in SOURCES.items():
        target = adapters / adapter / "_generated"
        target.mkdir(parents=True, exist_ok=True)
        folder = ROOT / "protos" / Path(source).parent
        arguments = ["protoc", f"-I{folder}", f"-I{well_known}", f"--python_out={target}", f"--pyi_out={target}"]
        if protoc.main([*arguments, Path(source).name]) != 0:
            sys.exit("protoc failed")
        (target / "__init__.py").write_text("")


class CustomBuildHook(BuildHookInterface[Any]):
    """Generates the protobuf classes before the files of the wheel are collected."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile; hatchling then picks the result up as an artifact."""
        compile_protos()
