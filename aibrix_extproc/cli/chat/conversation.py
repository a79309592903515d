"""The memory of a chat, and the commands that change it. Pure: no terminal, no network."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from aibrix_extproc.core.nearest import did_you_mean

MAX_MESSAGES: Final = 2_000

COMMANDS: Final[Mapping[str, str]] = {
    "/help": "list these commands",
    "/models": "list the models that are served",
    "/model NAME": "go on with another model",
    "/system TEXT": "set the system message; without TEXT remove it",
    "/retry": "ask the last question again",
    "/reset": "forget the conversation",
    "/history": "show the conversation",
    "/quit": "leave; so does Ctrl-D",
}
NAMES: Final = tuple(line.split()[0] for line in COMMANDS)
_ALIASES: Final[Mapping[str, str]] = {"/exit": "/quit", "/bye": "/quit", "/clear": "/reset", "/?": "/help"}


@dataclass(frozen=True, slots=True)
class Command:
    """A line that begins with a slash."""

    name: str
    argument: str = ""


@dataclass(slots=True)
class Conversation:
    """The messages so far, as the API takes them; `system` stands before all of them."""

    model: str = ""
    system: str = ""
    messages: list[dict[str, str]] = field(default_factory=list)

    @property
    def to_send(self) -> list[dict[str, str]]:
        """The messages of the next request."""
        return ([{"role": "system", "content": self.system}] if self.system else []) + self.messages

    def ask(self, text: str) -> None:
        """Add what the user says; the oldest messages go where there are too many."""
        self.messages.append({"role": "user", "content": text})
        del self.messages[:-MAX_MESSAGES]

    def answer(self, text: str) -> None:
        """Add what the model said. Nothing at all takes the question back: an answer is wanted after each."""
        if text:
            self.messages.append({"role": "assistant", "content": text})
        else:
            self.take_back()

    def take_back(self) -> str:
        """Remove the last question and its answer; returns the question, "" if there is none."""
        while self.messages:
            last = self.messages.pop()
            if last["role"] == "user":
                return last["content"]
        return ""


def command_of(line: str) -> Command | None:
    """The command that a line is; None for a message. `//x` is the message `/x`."""
    word, _, rest = line.strip().partition(" ")
    if not word.startswith("/") or word.startswith("//"):
        return None
    return Command(_ALIASES.get(word, word), rest.strip())


def message_of(line: str) -> str:
    """The message that a line is."""
    return line[1:] if line.startswith("//") else line


def unknown_command(name: str) -> str:
    """A sentence about a command that does not exist."""
    return f"There is no command {shlex.quote(name)}{did_you_mean(name, NAMES)} /help lists them."
