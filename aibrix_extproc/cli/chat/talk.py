"""The OpenAI SDK as the chat uses it: models, and answers piece by piece."""

from collections.abc import Generator
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final

import openai

from aibrix_extproc.cli.chat.conversation import Conversation

WRONG_TASK: Final = "unsupported_endpoint"


class TalkError(Exception):
    """One sentence about what went wrong, and the API's code for it."""

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of an answer; a thought is one of a reasoning model, before its answer."""

    text: str
    is_thought: bool = False


@dataclass(slots=True)
class Outcome:
    """The end of an answer."""

    reason: str | None = None
    tokens: int | None = None
    seconds: float = 0.0  # from the first piece to the last

    @property
    def said(self) -> str:
        """A line about it."""
        parts = [f"{self.tokens} tokens"] if self.tokens else []
        if self.tokens and self.seconds > 0:
            parts.append(f"{self.tokens / self.seconds:.0f} a second")
        if self.reason == "length":
            parts.append("cut off at the largest length")
        return ", ".join(parts)


class Talk:
    """One client of one base URL."""

    def __init__(self, base_url: str, api_key: str, timeout: float, **parameters: float) -> None:
        self.base_url = base_url
        self.outcome = Outcome()
        self._parameters = parameters
        self._client = openai.OpenAI(base_url=base_url, api_key=api_key, timeout=timeout, max_retries=2)

    def models(self) -> list[str]:
        """The models that are served."""
        try:
            return [one.id for one in self._client.models.list()]
        except openai.OpenAIError as error:
            raise self._translated(error) from error

    def answer(self, conversation: Conversation) -> Generator[Piece, None, None]:
        """The pieces of the next answer. Raises TalkError; closing it early ends the stream at the server."""
        self.outcome = Outcome()
        messages: Any = conversation.to_send
        parameters: Any = self._parameters
        try:
            with self._client.chat.completions.create(
                model=conversation.model,
                messages=messages,
                stream=True,
                stream_options={"include_usage": True},
                **parameters,
            ) as stream:
                yield from self._pieces(stream)
        except openai.OpenAIError as error:
            raise self._translated(error) from error

    def _pieces(self, stream: Any) -> Generator[Piece, None, None]:
        started_at: float | None = None
        for chunk in stream:
            started_at = started_at or monotonic()
            self.outcome.seconds = monotonic() - started_at
            if chunk.usage is not None:
                self.outcome.tokens = chunk.usage.completion_tokens
            for choice in chunk.choices:
                self.outcome.reason = choice.finish_reason or self.outcome.reason
                thought = getattr(choice.delta, "reasoning", None) or getattr(choice.delta, "reasoning_content", None)
                if thought:
                    yield Piece(str(thought), is_thought=True)
                if choice.delta.content:
                    yield Piece(choice.delta.content)

    def _translated(self, error: openai.OpenAIError) -> TalkError:
        match error:
            case openai.APITimeoutError():
                return TalkError(f"{self.base_url} did not answer in time; --timeout gives it longer.")
            case openai.AuthenticationError():
                said = _message_of(error.body, error.message)
                return TalkError(f"{said} Set OPENAI_API_KEY, or give --api-key-file.", error.code)
            case openai.APIStatusError():
                return TalkError(_message_of(error.body, error.message), error.code)
            case openai.APIConnectionError():
                return TalkError(
                    f"Nothing answers at {self.base_url}: start something there, as by `aibrix-extproc local`, "
                    "or name another --base-url."
                )
            case openai.APIError():
                return TalkError(_message_of(error.body, error.message), error.code)
        return TalkError(str(error))


def _message_of(body: object, otherwise: str) -> str:
    """The API's own words without the SDK's frame."""
    message = body.get("message") if isinstance(body, dict) else None
    return str(message or otherwise)
