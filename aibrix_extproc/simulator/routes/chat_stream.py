"""The chunks of a streamed chat completion."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aibrix_extproc.simulator.errors import dump
from aibrix_extproc.simulator.logprobs import chat_logprobs
from aibrix_extproc.simulator.routes.choices import escaped, event

if TYPE_CHECKING:
    from aibrix_extproc.simulator.routes.chat import ChatAnswer


class ChatFrame:
    """Writes the chunks of one choice."""

    def __init__(self, answer: ChatAnswer, index: int, ends_stream: bool) -> None:
        self.index = index
        self.finished = False
        self._answer = answer
        self._script = answer.scripts[index]
        self._ends_stream = ends_stream
        self._head = b"data: " + dump(answer.head())[:-1] + b',"choices":['
        self._top = (answer.body.top_logprobs or 0) if answer.body.logprobs else None
        opening = self._head + b'{"index":%d,"delta":' % index
        closing = b',"logprobs":null,"finish_reason":null,"token_ids":null}]}\n\n'
        if answer.tool is None:
            self._before, self._after = opening + b'{"content":', b"}" + closing
        else:
            self._before = opening + b'{"content":null,"tool_calls":[{"index":0,"function":{"arguments":'
            self._after = b"}}]}" + closing

    def opening(self) -> bytes:
        """The role; of a tool call also its name."""
        choice = {
            "index": self.index,
            "delta": {"role": "assistant", "content": ""},
            "logprobs": None,
            "finish_reason": None,
        }
        first = event(self._answer.head() | {"choices": [choice], "prompt_token_ids": None, "prompt_text": None})
        if self._answer.tool is None:
            return first
        call = {
            "id": self._answer.call_id(self.index),
            "type": "function",
            "index": 0,
            "function": {"name": self._answer.tool},
        }
        return first + self._chunk({"content": None, "tool_calls": [call]})

    def tokens(self, start: int, end: int) -> list[bytes]:
        """The chunks of some tokens; the one of the last token carries the finish reason, as in vLLM."""
        pieces = self._script.pieces
        last = len(pieces) - 1
        stop = min(end, last)
        if self._top is not None or start < self._answer.reasoning_tokens:
            chunks = [self._chunk(self._delta(at), logprobs=self._logprobs(at)) for at in range(start, stop)]
        else:
            before, after = self._before, self._after
            chunks = [before + escaped(piece) + after for piece in pieces[start:stop]]
        if start <= last < end:
            self.finished = True
            reason = self._script.finish_reason
            chunks.append(self._chunk(self._delta(last), reason, self._script.stop_reason, self._logprobs(last)))
        return chunks

    def finish(self, reason: str) -> bytes:
        """A finish reason without a token: of an empty answer or one that was cut off."""
        delta = {"content": ""} if self._answer.tool is None else {}
        return self._chunk(delta, reason, self._script.stop_reason if reason != "abort" else None)

    def _delta(self, position: int) -> dict[str, Any]:
        piece = self._script.pieces[position]
        if self._answer.tool is not None:
            return {"content": None, "tool_calls": [{"index": 0, "function": {"arguments": piece}}]}
        return {"reasoning" if position < self._answer.reasoning_tokens else "content": piece}

    def _logprobs(self, position: int) -> dict[str, Any] | None:
        return None if self._top is None else chat_logprobs([self._script.pieces[position]], self._top)

    def _chunk(
        self,
        delta: dict[str, Any],
        finish_reason: str | None = None,
        stop_reason: str | None = None,
        logprobs: dict[str, Any] | None = None,
    ) -> bytes:
        choice: dict[str, Any] = {
            "index": self.index,
            "delta": delta,
            "logprobs": logprobs,
            "finish_reason": finish_reason,
        }
        end = b"]}\n\n"
        if finish_reason is not None:
            choice["stop_reason"] = stop_reason
            if self._ends_stream:
                end = b'],"system_fingerprint":' + dump(self._answer.fingerprint) + b"}\n\n"
        choice["token_ids"] = None
        return self._head + dump(choice) + end
