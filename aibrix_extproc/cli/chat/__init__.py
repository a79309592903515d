"""`aibrix-extproc chat`: a chat in the terminal, streamed by the OpenAI SDK, with any OpenAI base URL.

Without a terminal it is one question and its answer: `echo "Say hello." | aibrix-extproc chat`.
"""

import argparse
import sys
from pathlib import Path
from typing import Final

from aibrix_extproc.settings.openai_sdk import sdk_environment

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
LOCAL: Final = "http://127.0.0.1:8080/v1"
MAX_KEY_BYTES: Final = 4096
MAX_INPUT_CHARACTERS: Final = 32 * 1024 * 1024


class UsageError(Exception):
    """One sentence about options that cannot be used."""


class _NoKeyHere(argparse.Action):
    """`--api-key VALUE`, which many other commands have: refused, without repeating the value."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        parser.error(
            "a key among the arguments can be read by every process: set OPENAI_API_KEY, or give --api-key-file"
        )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to talk to, and how."""
    parser.formatter_class = argparse.HelpFormatter
    parser.add_argument("prompt", nargs="*", metavar="PROMPT",
        help="one question: the command ends with its answer; a pipe's text is added to it")  # fmt: skip
    parser.add_argument("--base-url", metavar="URL", default=None, help=f"OPENAI_BASE_URL, or else {LOCAL}")
    parser.add_argument("--model", metavar="NAME", default=None, help="the first one listed that can chat")
    parser.add_argument("--api-key-file", type=Path, metavar="FILE", default=None,
        help="read the key from this file; else it is OPENAI_API_KEY, if that is set")  # fmt: skip
    parser.add_argument("--api-key", action=_NoKeyHere, help=argparse.SUPPRESS)
    parser.add_argument("--system", metavar="TEXT", default="", help="a system message")
    parser.add_argument("--max-tokens", type=_positive, metavar="N", default=None, help="the longest answer")
    parser.add_argument("--temperature", type=float, metavar="T", default=None, help="0 for the same answer each time")
    parser.add_argument("--timeout", type=float, metavar="SECONDS", default=600.0,
        help="for the beginning of an answer (%(default)g)")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """0 at the end of the chat; 1 if a single question was not answered; 2 for options that cannot be used."""
    try:
        from aibrix_extproc.cli.chat.conversation import Conversation
        from aibrix_extproc.cli.chat.dialogue import Dialogue
        from aibrix_extproc.cli.chat.screen import Screen
        from aibrix_extproc.cli.chat.talk import Talk
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in ("openai", "rich"):
            raise
        print("aibrix-extproc: chat needs an extra: in the clone run pip install -e '.[terminal]'", file=sys.stderr)
        return EXIT_USAGE
    try:
        base_url, key = _where(args)
        question = _question(args.prompt)
    except UsageError as error:
        print(f"aibrix-extproc: {error}", file=sys.stderr)
        return EXIT_USAGE
    named = {"max_tokens": args.max_tokens, "temperature": args.temperature}
    parameters = {name: value for name, value in named.items() if value is not None}
    talk = Talk(base_url, key, args.timeout, **parameters)
    dialogue = Dialogue(talk, Screen(), Conversation(args.model or "", args.system))
    if question is not None:
        return 0 if dialogue.once(question) else EXIT_FAILED
    return dialogue.run()


def _where(args: argparse.Namespace) -> tuple[str, str]:
    """The base URL, and a key for it: the SDK wants one even where none is asked for."""
    from_environment = sdk_environment()
    base_url = args.base_url or from_environment.base_url or LOCAL
    if not base_url.startswith(("http://", "https://")):
        raise UsageError(f"--base-url {base_url} is no URL; write it as {LOCAL}")
    if args.api_key_file is None:
        return base_url, from_environment.api_key or "any"
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


def _question(words: list[str]) -> str | None:
    """The one question, of arguments and a pipe; None for a chat at a terminal."""
    parts = [" ".join(words)] if words else []
    if not sys.stdin.isatty() and (piped := _piped()):
        parts.append(piped)
    if not parts and not sys.stdin.isatty():
        raise UsageError("there is no question: standard input is empty")
    return "\n\n".join(parts) if parts else None


def _piped() -> str:
    try:
        text = sys.stdin.read(MAX_INPUT_CHARACTERS + 1)
    except UnicodeDecodeError as error:
        raise UsageError("standard input is not UTF-8 text") from error
    if len(text) > MAX_INPUT_CHARACTERS:
        raise UsageError(f"standard input is longer than {MAX_INPUT_CHARACTERS} characters")
    return text.strip()


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a positive number, not {text!r}")
    return int(text)
