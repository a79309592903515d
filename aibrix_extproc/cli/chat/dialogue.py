"""The chat's turns: reads lines, asks, shows answers as they come, obeys commands."""

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from aibrix_extproc.cli.chat.conversation import (
    COMMANDS,
    NAMES,
    Command,
    Conversation,
    command_of,
    message_of,
    unknown_command,
)
from aibrix_extproc.cli.chat.screen import Screen
from aibrix_extproc.cli.chat.talk import WRONG_TASK, Talk, TalkError

PROMPT: Final = "> "
MAX_SHOWN: Final = 200  # models


class Dialogue:
    """One chat."""

    def __init__(self, talk: Talk, screen: Screen, conversation: Conversation) -> None:
        self._talk = talk
        self._screen = screen
        self._conversation = conversation
        self._others: list[str] = []  # models to try where the first one cannot chat
        self._obey: Mapping[str, Callable[[str], None]] = {
            "/help": self._help,
            "/models": self._models,
            "/model": self._model,
            "/system": self._system,
            "/retry": self._retry,
            "/reset": self._reset,
            "/history": self._history,
        }

    def once(self, question: str) -> bool:
        """Ask one question; False if there is no answer."""
        return self._choose_model() and self._ask(question)

    def run(self) -> int:
        """Talk until the user leaves."""
        if not self._choose_model():
            return 1
        self._screen.note(
            f"{self._conversation.model} at {self._talk.base_url}. /help lists commands; Ctrl-C stops an answer."
        )
        with contextlib.suppress(EOFError), _line_editing():
            while (line := self._line()) is not None:
                command = command_of(line)
                if command is None:
                    self._ask(message_of(line))
                elif not self._obeyed(command):
                    return 0
        self._screen.note("")
        return 0

    def _line(self) -> str | None:
        """The next line that says something."""
        while True:
            try:
                line = input(PROMPT).strip()
            except KeyboardInterrupt:
                self._screen.note("\nCtrl-D or /quit leaves.")
                continue
            if line:
                return line

    def _choose_model(self) -> bool:
        if self._conversation.model:
            return True
        try:
            models = self._talk.models()
        except TalkError as error:
            self._screen.error(str(error))
            return False
        if not models:
            self._screen.error(f"{self._talk.base_url} serves no model.")
            return False
        self._conversation.model, *self._others = models
        return True

    def _ask(self, question: str) -> bool:
        conversation = self._conversation
        conversation.ask(question)
        while True:
            try:
                conversation.answer(self._answered())
                return True
            except TalkError as error:
                if error.code == WRONG_TASK and self._others:
                    conversation.model = self._others.pop(0)
                    self._screen.note(f"Trying {conversation.model}.")
                    continue
                conversation.take_back()
                self._screen.error(str(error))
                return False

    def _answered(self) -> str:
        """Show the answer as it comes; Ctrl-C ends it, and what has come so far counts."""
        parts: list[str] = []
        thinking = False
        with contextlib.closing(self._talk.answer(self._conversation)) as pieces:
            try:
                for piece in pieces:
                    if thinking and not piece.is_thought:
                        self._screen.end_of_answer()
                    thinking = piece.is_thought
                    self._screen.piece(piece.text, thought=thinking)
                    parts += [] if thinking else [piece.text]
            except KeyboardInterrupt:
                if not self._screen.is_terminal:
                    raise
                self._screen.end_of_answer()
                self._screen.note("Stopped.")
                return "".join(parts)
            except TalkError:
                if parts:
                    self._screen.end_of_answer()
                raise
        self._others.clear()
        self._screen.end_of_answer()
        if self._screen.is_terminal and self._talk.outcome.said:
            self._screen.note(self._talk.outcome.said)
        return "".join(parts)

    def _obeyed(self, command: Command) -> bool:
        """Obey a command; False for the one that leaves."""
        if command.name == "/quit":
            return False
        obey = self._obey.get(command.name)
        if obey is None:
            self._screen.error(unknown_command(command.name))
        else:
            obey(command.argument)
        return True

    def _help(self, _: str) -> None:
        for line, meaning in COMMANDS.items():
            self._screen.note(f"{line:<14} {meaning}")
        self._screen.note("A message that begins with a slash has two of them: //")

    def _models(self, _: str) -> None:
        try:
            models = self._talk.models()
        except TalkError as error:
            self._screen.error(str(error))
            return
        for model in models[:MAX_SHOWN]:
            self._screen.note(f"{'*' if model == self._conversation.model else ' '} {model}")

    def _model(self, name: str) -> None:
        if name:
            self._conversation.model = name
            self._others.clear()
        self._screen.note(f"The model is {self._conversation.model}.")

    def _system(self, text: str) -> None:
        self._conversation.system = text
        self._screen.note("The system message is set." if text else "There is no system message.")

    def _retry(self, _: str) -> None:
        question = self._conversation.take_back()
        if question:
            self._ask(question)
        else:
            self._screen.note("There is no question yet.")

    def _reset(self, _: str) -> None:
        self._conversation.messages.clear()
        self._screen.note("The conversation is forgotten.")

    def _history(self, _: str) -> None:
        for message in self._conversation.to_send:
            self._screen.note(f"{message['role']}: {message['content']}")


@contextlib.contextmanager
def _line_editing() -> Iterator[None]:
    """Arrow keys, earlier lines and completion of commands, where Python has readline."""
    try:
        import readline
    except ModuleNotFoundError:
        yield
        return

    def complete(text: str, state: int) -> str | None:
        found = [name for name in NAMES if name.startswith(text)] if text.startswith("/") else []
        return found[state] if state < len(found) else None

    readline.set_completer_delims(" ")
    readline.set_completer(complete)
    if sys.stdin.isatty():
        readline.parse_and_bind("tab: complete")
    try:
        yield
    finally:
        readline.set_completer(None)
