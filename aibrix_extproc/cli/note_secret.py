"""`aibrix-extproc keys note-secret`: makes the Secret with the key that gateways and metadata services share."""

import argparse
import asyncio
import secrets
import sys
from pathlib import Path
from typing import Any, Final

NAME: Final = "note-secret"
SECRET: Final = "aibrix-extproc-note-keys"
ENTRY: Final = "keys"  # the file that pods mount
EXIT_CANNOT: Final = 2
_KEY_BYTES: Final = 32


def add_verb(verbs: Any) -> None:
    """Declare the verb and its options."""
    summary = "make the Secret that gateways and metadata services share, unless it is there"
    parser: argparse.ArgumentParser = verbs.add_parser(NAME, help=summary, description=f"{summary.capitalize()}.")
    parser.add_argument("--namespace", metavar="NAME", help="where (the pod's own, or that of the context)")
    parser.add_argument("--secret", metavar="NAME", default=SECRET, help=f"how it is called ({SECRET})")
    parser.add_argument("--kubeconfig", type=Path, help="kubeconfig file; without it the service account, or yours")
    parser.add_argument("--kube-context", help="context of the kubeconfig")
    parser.set_defaults(verb_alone=run)


def run(args: argparse.Namespace) -> int:
    """0: the Secret is there; 2: an extra is missing. Raises SourceError where it cannot be made.

    The key is printed nowhere.
    """
    try:
        return asyncio.run(_make(args))
    except ModuleNotFoundError as error:
        print(
            f"aibrix-extproc: note-secret needs an extra ({error.name}): pip install -e '.[kubernetes]'",
            file=sys.stderr,
        )
        return EXIT_CANNOT


async def _make(args: argparse.Namespace) -> int:
    from aibrix_extproc.adapters.kube.access import find_access
    from aibrix_extproc.adapters.kube.api import KubeApi
    from aibrix_extproc.adapters.kube.secrets import create_secret

    access = find_access(args.kubeconfig, args.kube_context)
    namespace = args.namespace or access.namespace
    async with KubeApi(access) as api:
        made = await create_secret(api, namespace, args.secret, {ENTRY: secrets.token_urlsafe(_KEY_BYTES)})
    print(f"the Secret {args.secret} in the namespace {namespace} " + ("was made" if made else "is there already"))
    return 0
