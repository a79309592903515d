"""Compiles protos/ into the package; hatchling calls it for every build and editable install."""

import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).resolve().parent.parent
SOURCE = "envoy/service/ext_proc/v3/external_processor.proto"
TARGET = ROOT / "aibrix_extproc" / "adapters" / "extproc" / "_generated"


def compile_protos(target: Path = TARGET) -> None:
    """Write external_processor_pb2.py and its type stub into the target folder."""
    from grpc_tools import protoc

    target.mkdir(parents=True, exist_ok=True)
    folder = ROOT / "protos" / Path(SOURCE).parent
    well_known = files("grpc_tools") / "_proto"
    arguments = ["protoc", f"-I{folder}", f"-I{well_known}", f"--python_out={target}", f"--pyi_out={target}"]
    if protoc.main([*arguments, Path(SOURCE).name]) != 0:
        sys.exit("protoc failed")
    (target / "__init__.py").write_text("")


class CustomBuildHook(BuildHookInterface[Any]):
    """Generates the protobuf classes before the files of the wheel are collected."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile; hatchling then picks the result up as an artifact."""
        compile_protos()
