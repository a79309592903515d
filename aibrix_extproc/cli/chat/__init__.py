"""`aibrix-extproc chat`: a chat in the terminal, streamed by the OpenAI SDK, with any OpenAI base URL.

Without a terminal it is one question and its answer: `echo "Say hello." | aibrix-extproc chat`.
"""

import argparse
import sys
from typing import Final

from aibrix_extproc.cli.connection import UsageError, add_base_url, add_key_options, where

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
MAX_INPUT_CHARACTERS: Final = 32 * 1024 * 1024


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options: the model, the connection, and the form of answers."""
    parser.formatter_class = argparse.HelpFormatter
    parser.add_argument("prompt", nargs="*", metavar="PROMPT",
        help="one question: the command ends with its answer; a pipe's text is added to it")  # fmt: skip
    add_base_url(parser)
    parser.add_argument("--model", metavar="NAME", default=None, help="the first one listed that can chat")
    add_key_options(parser)
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
        base_url, key = where(args)
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
