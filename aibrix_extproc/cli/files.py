"""`aibrix-extproc files`: store, fetch, list and delete files, with the OpenAI SDK and any base URL."""

import argparse
import sys
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any, Final

from aibrix_extproc.cli.connection import UsageError
from aibrix_extproc.cli.sdk_command import add_verb, first, minute, print_json, print_table, printable, run_verb
from aibrix_extproc.cli.transfers import downloaded, uploaded

if TYPE_CHECKING:
    from openai import OpenAI
    from openai.types import FileObject

_COLUMNS: Final = ("id", "purpose", "bytes", "created", "expires", "name")
_PAGE: Final = 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One subcommand per verb."""
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    listed = add_verb(verbs, "list", _list, "show files, newest first")
    listed.add_argument("--limit", type=int, default=20, metavar="N", help="at most this many (%(default)s)")
    listed.add_argument("--purpose", metavar="PURPOSE", help="only those stored for this")
    listed.add_argument("--json", action="store_true", help="print JSON")
    add_verb(verbs, "show", _show, "show one file as JSON").add_argument(
        "id", metavar="ID", help="as `files list` shows it"
    )
    upload = add_verb(verbs, "upload", _upload, "store files and print their IDs")
    upload.add_argument("files", type=Path, nargs="+", metavar="FILE", help="files of this machine")
    upload.add_argument("--purpose", metavar="PURPOSE", help="batch for NAME.jsonl, else user_data, if not given")
    upload.add_argument("--expires-after", type=int, metavar="SECONDS", help="an hour to 30 days after the upload")
    upload.add_argument("--json", action="store_true", help="print the files as JSON")
    download = add_verb(verbs, "download", _download, "write a file's content")
    download.add_argument("id", metavar="ID", help="as `files list` shows it")
    download.add_argument(
        "--output", type=Path, metavar="FILE", help="replaced if it exists (the file's own name, which must be free, "
        "if not given)",
    )  # fmt: skip
    download.add_argument("--json", action="store_true", help="print the file as JSON")
    delete = add_verb(verbs, "delete", _delete, "delete files with their contents")
    delete.add_argument("ids", nargs="+", metavar="ID", help="as `files list` shows it")


def run(args: argparse.Namespace) -> int:
    """0: done; 1: the API refused or nobody answered; 2: wrong options, or a file here that cannot be used."""
    return run_verb(args, "files")


def _list(client: "OpenAI", args: argparse.Namespace) -> int:
    purpose: dict[str, Any] = {"purpose": args.purpose} if args.purpose else {}
    found = first(client.files.list(limit=min(max(args.limit, 1), _PAGE), **purpose), args.limit)
    if args.json:
        print_json(found)
    else:
        print_table(_COLUMNS, map(_row, found))
    return 0


def _row(file: "FileObject") -> tuple[str, ...]:
    expires = minute(file.expires_at) if file.expires_at else "-"
    return (file.id, file.purpose, str(file.bytes), minute(file.created_at), expires, file.filename)


def _show(client: "OpenAI", args: argparse.Namespace) -> int:
    print(client.files.retrieve(args.id).to_json())
    return 0


def _upload(client: "OpenAI", args: argparse.Namespace) -> int:
    made = []
    for path in args.files:
        purpose = args.purpose or ("batch" if path.suffix.lower() == ".jsonl" else "user_data")
        file = uploaded(client, path, purpose, args.expires_after)
        made.append(file)
        if not args.json:
            print(printable(file.id), flush=True)  # at once: a later file may fail
    if args.json:
        print_json(made)
    return 0


def _download(client: "OpenAI", args: argparse.Namespace) -> int:
    file = client.files.retrieve(args.id)
    path = downloaded(client, file.id, args.output or Path(_own_name(file)), replaces=args.output is not None)
    if args.json:
        print(file.to_json())
    print(f"wrote {path}", file=sys.stderr)
    return 0


def _own_name(file: "FileObject") -> str:
    """The name that the server tells, if it is nothing but a visible name in this directory."""
    name = PurePosixPath(PureWindowsPath(file.filename).name).name
    if not name or name.startswith(".") or not name.isprintable():
        raise UsageError(f"the file's name, {printable(file.filename)!r}, cannot be used here; name one with --output")
    return name


def _delete(client: "OpenAI", args: argparse.Namespace) -> int:
    for file_id in args.ids:
        print(f"{printable(client.files.delete(file_id).id)} is deleted", flush=True)
    return 0
