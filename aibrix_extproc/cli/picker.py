"""`aibrix-extproc picker`: the ext_proc server as an endpoint picker of the Gateway API Inference Extension.

It understands the options that such pickers have, says with them what `serve` would be told by settings, and runs the
same gateway. Every setting has its option here, too.
"""

import argparse
import sys
from pathlib import Path
from typing import Any, Final

from aibrix_extproc.cli.flags import add_settings_arguments, given_settings
from aibrix_extproc.cli.process import with_settings
from aibrix_extproc.settings import LogFormat, LogLevel, Settings, Tls, Tree, build

HEALTH_PORT = 9003
METRICS_PORT = 9090
DEBUG_VERBOSITY = 4
_SWITCH = {"true": True, "1": True, "t": True, "false": False, "0": False, "f": False}
# option, setting, what is there, default
_PORTS = (
    ("--grpc-port", "server.port", "the ext_proc service", 9002),
    ("--grpc-health-port", "server.health_port", "the gRPC health service, always plaintext", HEALTH_PORT),
    ("--metrics-port", "admin.port", "metrics and the other admin pages", METRICS_PORT),
)
# What differs from `serve`; the settings that depend on others are not here.
_DEFAULTS: Final[Tree] = {
    "server": {"host": "0.0.0.0", "health_port": HEALTH_PORT, "tls": Tls.SELF_SIGNED},
    "admin": {"host": "0.0.0.0", "port": METRICS_PORT},
    "routing": {"destinations": 1},
    "picker": {"assume_duplex": True},
}
_FORMATS = {"json": LogFormat.JSON, "console": LogFormat.TEXT}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The picker's own options, then one for every setting."""
    own = parser.add_argument_group("picker options")

    def add(*names: str, **options: Any) -> None:
        own.add_argument(*names, default=argparse.SUPPRESS, **options)

    pool = "the InferencePool whose pods are picked; without it name a fleet (--fleet, --endpoint)"
    add("--pool-name", dest="kubernetes.inference_pool", metavar="NAME", help=pool)
    add(
        "--pool-namespace",
        dest="kubernetes.namespaces",
        metavar="NAME",
        action="append",
        help="its namespace (default: the one we run in)",
    )
    for name, setting, what, port in _PORTS:
        add(name, dest=setting, metavar="PORT", help=f"port of {what} (default: {port})")
    tls = "speak TLS on the ext_proc port, with a certificate made at start unless there is one (default: true)"
    add("--secure-serving", type=_switch, nargs="?", const=True, metavar="BOOL", help=tls)
    files = "directory with tls.crt and tls.key, reloaded when they change"
    add("--cert-path", type=Path, metavar="DIR", help=files)
    add("--zap-encoder", choices=sorted(_FORMATS), help="how log lines look (default: json)")
    debug = f"verbosity of the log; {DEBUG_VERBOSITY} and more is debug"
    add("-v", "--v", type=int, metavar="LEVEL", help=debug)
    add("--config-file", metavar="FILE", help="tolerated and not read")
    add_settings_arguments(parser, defaults=_DEFAULTS)


def run(args: argparse.Namespace) -> int:
    """Serve until a signal ends the process."""
    return with_settings(lambda: build(by_source(args), file=args.config), lambda settings: _serve(settings, args))


def _serve(settings: Settings, args: argparse.Namespace) -> int:
    if "config_file" in args:
        print("aibrix-extproc: --config-file is not read; see --help for what can be set", file=sys.stderr)
    from aibrix_extproc.app.gateway import run_gateway

    return run_gateway(settings)


def by_source(args: argparse.Namespace) -> dict[str, Tree]:
    """The defaults of a picker, then file, environment and flags, from low precedence to high."""
    given = given_settings(args)
    flags = given["flag"]
    for group, fields in _translated(args).items():
        flags[group] = {**fields, **flags.get(group, {})}
    has_pool = any(tree.get("kubernetes", {}).get("inference_pool") for tree in given.values())
    return {"picker": {**_DEFAULTS, "kubernetes": {"enabled": has_pool}}, **given}


def _translated(args: argparse.Namespace) -> Tree:
    """The options that say a setting in other words."""
    said = vars(args)
    tree: Tree = {}
    secure, certificate = said.get("secure_serving"), said.get("cert_path")
    if secure is False:
        tree["server"] = {"tls": Tls.NONE}
    elif certificate is not None:
        tree["server"] = {"tls": Tls.FILES, "tls_cert": certificate}
    elif secure is True:
        tree["server"] = {"tls": Tls.SELF_SIGNED}
    log: dict[str, Any] = {}
    if "zap_encoder" in said:
        log["format"] = _FORMATS[said["zap_encoder"]]
    if said.get("v", 0) >= DEBUG_VERBOSITY:
        log["level"] = LogLevel.DEBUG
    return {**tree, "log": log} if log else tree


def _switch(text: str) -> bool:
    if text.lower() not in _SWITCH:
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return _SWITCH[text.lower()]
