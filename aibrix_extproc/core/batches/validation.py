"""Validates a batch's input in one pass and cuts it into shards."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from aibrix_extproc.core.batches.request_lines import (
    LineError,
    RequestLine,
    other_model,
    read_line,
    repeated_id,
    unknown_model,
)
from aibrix_extproc.core.batches.splitting import Line

MAX_ERRORS: Final = 1000  # entries in a failed batch; a client repairs no more at a time
SHARD_LINES: Final = 200
SHARD_BYTES: Final = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class InputLimits:
    """The most that a batch's input may have."""

    requests: int = 50_000
    enqueued_tokens: int = 0  # of one caller's batches for one model together; 0: no limit
    line_bytes: int = 10 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Shard:
    """Consecutive lines of the input, the unit that one worker holds."""

    number: int
    start: int  # of its bytes in the input
    end: int
    first_line: int  # physical line number at `start`
    lines: int  # requests; blank lines do not count


class Validation:
    """Feed it every line, then read `errors`, `shards` and `model`."""

    def __init__(self, endpoint: str, has_model: Callable[[str], bool], limits: InputLimits) -> None:
        self._endpoint = endpoint
        self._has_model = has_model
        self._limits = limits
        self._seen: dict[bytes, int] = {}  # digest of a custom_id -> line
        self._shard: Shard | None = None
        self._shards: list[Shard] = []
        self._errors: list[LineError] = []
        self._failed = False
        self.model: str | None = None
        self.total = 0
        self.tokens = 0  # of all prompts, estimated

    def feed(self, line: Line) -> None:
        """Look at one line."""
        if line.is_blank:
            return
        self.total += 1
        if self.total > self._limits.requests:
            return
        self._extend(line)
        error = self._error(line)
        if error is not None:
            self._failed = True
            if len(self._errors) < MAX_ERRORS:
                self._errors.append(error)

    def _error(self, line: Line) -> LineError | None:
        if line.text is None:
            message = f"This line is longer than {self._limits.line_bytes} bytes."
            return LineError("invalid_json_line", message, None, line.number)
        request = read_line(line.text, self._endpoint, line.number)
        if isinstance(request, LineError):
            return request
        self.tokens += request.tokens
        return self._repeated(request, line.number) or self._wrong_model(request, line.number)

    def _repeated(self, request: RequestLine, number: int) -> LineError | None:
        digest = hashlib.blake2b(request.custom_id.encode(), digest_size=16).digest()
        first = self._seen.setdefault(digest, number)
        return None if first == number else repeated_id(request.custom_id, first, number)

    def _wrong_model(self, request: RequestLine, number: int) -> LineError | None:
        if self.model is None:
            if not self._has_model(request.model):
                return unknown_model(request.model, number)
            self.model = request.model
        return None if request.model == self.model else other_model(request.model, self.model, number)

    def _extend(self, line: Line) -> None:
        shard = self._shard
        size = line.end - line.start
        if shard is None or shard.lines >= SHARD_LINES or shard.end - shard.start + size > SHARD_BYTES:
            if shard is not None:
                self._shards.append(shard)
            self._shard = Shard(len(self._shards), line.start, line.end, line.number, 1)
        else:
            self._shard = Shard(shard.number, shard.start, line.end, shard.first_line, shard.lines + 1)

    @property
    def errors(self) -> list[LineError]:
        """What is wrong, by line; empty if the batch may run."""
        if not self.total:
            return [LineError("empty_file", "The input file is empty. It must contain at least one request.")]
        if self.total > self._limits.requests:
            message = f"The input file has more than {self._limits.requests} requests."
            return [LineError("too_many_tasks", message)]
        return self._errors

    @property
    def shards(self) -> list[Shard]:
        """The shards of the whole input."""
        return [*self._shards, self._shard] if self._shard is not None else []
