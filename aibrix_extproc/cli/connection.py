"""The options by which commands of ours reach any OpenAI base URL, and the key that they use."""

import argparse
from pathlib import Path
from typing import Final

from aibrix_extproc.settings.admin_key import found_admin_key
from aibrix_extproc.settings.openai_sdk import sdk_environment

LOCAL: Final = "http://127.0.0.1:8080/v1"
MAX_KEY_BYTES: Final = 4096


class UsageError(Exception):
    """One sentence about options that cannot be used."""


class _NoKeyHere(argparse.Action):
    """`--api-key VALUE`, which many other commands have: refused, without repeating the value."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        parser.error(
            "a key among the arguments can be read by every process: set OPENAI_API_KEY, or give --api-key-file"
        )


def add_base_url(parser: argparse.ArgumentParser) -> None:
    """`--base-url`."""
    parser.add_argument("--base-url", metavar="URL", default=None, help=f"OPENAI_BASE_URL, or else {LOCAL}")


def add_key_options(parser: argparse.ArgumentParser) -> None:
    """`--api-key-file`, and a word about `--api-key`."""
    parser.add_argument("--api-key-file", type=Path, metavar="FILE", default=None,
        help="read the key from this file; else it is OPENAI_API_KEY, if that is set")  # fmt: skip
    parser.add_argument("--api-key", action=_NoKeyHere, help=argparse.SUPPRESS)


def where(args: argparse.Namespace, *, admin: bool = False) -> tuple[str, str]:
    """The base URL, and a key for it: the SDK wants one even where none is asked for. Raises UsageError.

    `admin`: for operations of administrators; at a `local` on this machine its key for them is used by itself.
    """
    from_environment = sdk_environment()
    base_url = args.base_url or from_environment.base_url or LOCAL
    if not base_url.startswith(("http://", "https://")):
        raise UsageError(f"--base-url {base_url} is no URL; write it as {LOCAL}")
    if args.api_key_file is None:
        found = found_admin_key(base_url) if admin else None
        return base_url, found or from_environment.api_key or "any"
    try:
        with args.api_key_file.open("rb") as file:
            key = file.read(MAX_KEY_BYTES + 1).decode("ascii").strip()
    except OSError as error:
        raise UsageError(f"the key file {args.api_key_file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        key = ""
    if not key or len(key) > MAX_KEY_BYTES or not key.isprintable() or " " in key:
        raise UsageError(f"the key file {args.api_key_file} must hold one key and nothing else")
    return base_url, key
