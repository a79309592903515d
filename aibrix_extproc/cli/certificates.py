"""`aibrix-extproc certificates`: an authority of our own, and the certificates of the processors and their Envoys.

For installations without cert-manager. The folder keeps the authority's key, which belongs to the operator of the
gateway and not into the cluster.
"""

import argparse
import base64
import os
import sys
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

import yaml

EXIT_FAILED: Final = 1
DAYS: Final = 365
AUTHORITY_DAYS: Final = 3650
SERVER_NAMES: Final = ("aibrix-extproc.aibrix-extproc-system.svc",)
CLIENT_NAMES: Final = ("envoy.aibrix-extproc",)
SECRETS: Final = {"server": "aibrix-extproc-server-tls", "envoy": "aibrix-extproc-envoy-tls"}
_STEPS: Final = {
    "renew": "new certificates of the authority, which is made if there is none",
    "introduce": "make the next authority; it is trusted beside the one that certifies",
    "switch": "certify with the next authority; the one before is still trusted",
    "retire": "trust only the authority that certifies",
}
_CURRENT: Final = "ca"
_OTHER: Final = "other-ca"  # the next one, or the one before


class _FolderError(Exception):
    """An error in the folder of certificates, as one sentence."""


@dataclass(frozen=True, slots=True)
class _Issued:
    """Files of one end: names and PEM contents."""

    files: dict[str, bytes]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The folder, what to do, names and times."""
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where the authority and its certificates are kept")
    steps = "; ".join(f"{name}: {what}" for name, what in _STEPS.items())
    parser.add_argument("step", choices=tuple(_STEPS), nargs="?", default="renew", help=steps)
    server = (
        f"name that Envoy expects of the processors, repeatable (if not given, {SERVER_NAMES[0]},"
        " and the same with the namespace)"
    )
    parser.add_argument("--server-name", action="append", metavar="NAME", default=None, help=server)
    client = f"name by which the processors know Envoy, repeatable ({CLIENT_NAMES[0]} if not given)"
    parser.add_argument("--client-name", action="append", metavar="NAME", default=None, help=client)
    parser.add_argument("--days", type=_days, default=DAYS, metavar="N", help="how long certificates are good")
    parser.add_argument("--namespace", metavar="NAME", default=None,
                        help="print the Secrets for this namespace, for kubectl apply -f -")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Write the files; 0, or 1 with one sentence on standard error."""
    try:
        _take_step(args.folder, args.step)
        issued = _issue(args)
    except (OSError, ValueError, _FolderError) as error:
        print(f"aibrix-extproc: {error}", file=sys.stderr)
        return EXIT_FAILED
    if args.namespace is not None:
        print(yaml.safe_dump_all((_secret(end, one, args.namespace) for end, one in issued.items()), sort_keys=False))
    else:
        print(f"Written to {args.folder}: server/ for the processors (tls_cert, tls_client_ca), envoy/ for Envoy.")
    return 0


def _take_step(folder: Path, step: str) -> None:
    """Make or move authorities."""
    from aibrix_extproc.tls.authority import make_authority

    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    current, other = _files(folder, _CURRENT), _files(folder, _OTHER)
    if step == "introduce" and other[0].exists():
        raise _FolderError(f"{other[0]} is there already: first switch to it, or retire it")
    if step == "switch" and not other[1].exists():
        raise _FolderError(f"{other[1]} is not there: first introduce the next authority")
    making = {"renew": current, "introduce": other}.get(step)
    if making is not None and not making[0].exists():
        authority = make_authority("aibrix-extproc", timedelta(days=AUTHORITY_DAYS))
        _write(making[0], authority.certificate)
        _write(making[1], authority.key)
    if step == "switch":
        for one, next_one in zip(current, other, strict=True):
            spare = one.with_suffix(f"{one.suffix}.old")
            one.rename(spare)
            next_one.rename(one)
            spare.rename(next_one)
    if step == "retire":
        for one in other:
            one.unlink(missing_ok=True)


def _issue(args: argparse.Namespace) -> dict[str, _Issued]:
    from aibrix_extproc.tls.authority import Authority, Role

    certificate, key = _files(args.folder, _CURRENT)
    if not certificate.exists():
        raise _FolderError(f"{certificate} is not there: first make the authority, by renew")
    authority = Authority(certificate.read_bytes(), key.read_bytes())
    other = _files(args.folder, _OTHER)[0]
    trusted = authority.certificate + (other.read_bytes() if other.exists() else b"")
    life = timedelta(days=args.days)
    issued = {}
    for end, role, names in (
        ("server", Role.SERVER, args.server_name or _server_names(args.namespace)),
        ("envoy", Role.CLIENT, args.client_name or CLIENT_NAMES),
    ):
        pair = authority.certify(role, tuple(names), life)
        issued[end] = _Issued({"tls.crt": pair.certificate, "tls.key": pair.key, "ca.crt": trusted})
        (args.folder / end).mkdir(mode=0o700, exist_ok=True)
        for name, content in issued[end].files.items():
            _write(args.folder / end / name, content)
    return issued


def _server_names(namespace: str | None) -> tuple[str, ...]:
    """Names that the manifests expect: overlays keep one in every namespace, the chart's has its namespace in it."""
    moved = () if namespace is None else (f"aibrix-extproc.{namespace}.svc",)
    return tuple(dict.fromkeys((*SERVER_NAMES, *moved)))


def _files(folder: Path, stem: str) -> tuple[Path, Path]:
    return folder / f"{stem}.crt", folder / f"{stem}.key"


def _write(path: Path, content: bytes) -> None:
    """Replace the file whole; it is for its owner only at every moment."""
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
    new.replace(path)


def _secret(end: str, issued: _Issued, namespace: str) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": SECRETS[end], "namespace": namespace},
        "type": "kubernetes.io/tls",
        "data": {name: base64.b64encode(content).decode("ascii") for name, content in issued.files.items()},
    }


def _days(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= AUTHORITY_DAYS:
        raise argparse.ArgumentTypeError(f"must be a number of days from 1 to {AUTHORITY_DAYS}, not {text!r}")
    return int(text)
