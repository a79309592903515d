"""Which module may import which library, as two tables: one for the whole package, and a shorter one for its core."""

import ast
from collections.abc import Iterator, Mapping
from typing import Final

from tests.architecture.sources import called

# Library -> the rooms of aibrix_extproc that may import it; "" is all of them. The longest name that matches counts,
# so a part of a library may have a room of its own. A library without a row may be imported nowhere.
ROOMS: Final[Mapping[str, tuple[str, ...]]] = {
    # protocols
    "grpc": ("adapters.extproc",),
    "grpc_health": ("adapters.extproc",),
    "google.protobuf": ("adapters.extproc", "adapters.accesslog"),
    "hpack": ("http2",),
    "aiohttp": (
        "adapters.engine", "adapters.engineops", "adapters.http", "adapters.internal_api", "adapters.kube",
        "adapters.openai_http", "app.local", "app.metadata", "simulator", "webclient", "webserver",
    ),
    "yarl": ("adapters.engine", "adapters.engineops"),
    "multipart": ("adapters.openai_http",),
    "cryptography": ("tls",),
    "zmq": ("adapters.kvevents",),
    # what stands around us
    "kubernetes": ("adapters.kube.package",),
    "envoy": ("adapters.envoyproxy.find",),
    "envoy_data_plane": ("adapters.envoyproxy",),
    "betterproto2": ("adapters.envoyproxy",),
    "prometheus_client": ("adapters.telemetry",),
    # stored objects
    "sqlalchemy": ("adapters.ledger",),
    "alembic": ("adapters.ledger",),
    "obstore": ("adapters.blobs",),
    # values and their texts
    "msgspec": ("",),
    "xxhash": ("core.openai.wire.prefix",),
    "pydantic": ("settings", "cli", "app.default_key", "simulator", "conformance"),
    "yaml": (
        "settings", "config_files", "adapters.keyfile", "adapters.kube", "app.doctor", "app.local", "cli.certificates",
    ),
    # the process and its terminal
    "uvloop": ("app.frame", "simulator.process"),
    "openai": (
        "cli.batch", "cli.batch_progress", "cli.chat", "cli.files", "cli.sdk_command", "cli.transfers", "cli.usage",
        "conformance",
    ),
    "rich": ("cli",),
    "shtab": ("cli.completion",),
}  # fmt: skip

# All that core may import beside itself: pure modules of the standard library, and msgspec.
CORE: Final = frozenset({
    "abc", "binascii", "bisect", "codecs", "collections", "dataclasses", "difflib", "enum", "fnmatch", "functools",
    "hashlib", "heapq", "hmac", "inspect", "ipaddress", "itertools", "json", "math", "msgspec", "operator", "re",
    "statistics", "struct", "types", "typing", "unicodedata", "urllib.parse", "zlib",
})  # fmt: skip
# These modules of core need more, for a reason that each gives.
CORE_ALSO: Final[Mapping[str, frozenset[str]]] = {
    "core.openai.wire.splice": frozenset({"ctypes"}),
    "core.openai.wire.prefix": frozenset({"xxhash"}),
    "core.openai.upstream.packing": frozenset({"datetime"}),
}
# Parts of the package that core stands on; they keep core's rules.
BELOW_CORE: Final = ("core", "rope")


def imports(module: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and full name of everything that a module imports, wherever it stands; names given as texts, too."""
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            # Of `from google import protobuf` the second word counts, too.
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and called(node) in ("import_module", "__import__") and node.args:
            name = node.args[0]
            if isinstance(name, ast.Constant) and isinstance(name.value, str):
                yield node.lineno, name.value


def within(name: str, package: str) -> bool:
    """Whether a dotted name is a package or a part of it."""
    return not package or name == package or name.startswith(f"{package}.")


def refusals(room: str, module: ast.Module, standard: frozenset[str]) -> Iterator[tuple[int, str]]:
    """Line and reason of each import that a module (its name without `aibrix_extproc.`) may not have."""
    for line, name in imports(module):
        first = name.partition(".")[0]
        if first == "aibrix_extproc":
            continue
        if any(within(room, part) for part in BELOW_CORE):
            if not any(within(name, allowed) for allowed in CORE | CORE_ALSO.get(room, frozenset())):
                yield line, f"{name} is not in the list CORE of tests/architecture/libraries.py"
        elif first not in standard:
            rows = [library for library in ROOMS if within(name, library)]
            rooms = ROOMS[max(rows, key=len)] if rows else ()
            if not any(within(room, allowed) for allowed in rooms):
                yield line, f"{name} belongs to {' and '.join(rooms) or 'no room'}: tests/architecture/libraries.py"
