"""What a case is, and what became of it."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aibrix_extproc.conformance.bench import Bench


class Verdict(enum.StrEnum):
    """How a case ended."""

    PASS = "pass"
    FAIL = "FAIL"  # in capitals: the word to find in a long list
    SKIP = "skip"


class Need(enum.StrEnum):
    """What a deployment must have for a case to be asked; the value stands in the list of cases."""

    KEY = "API keys"
    CHAT = "chat model"
    SECOND = "second chat model"
    RESPONSES = "chat model with the Responses API"
    EMBEDDING = "embedding model"
    RERANK = "rerank model"
    TRANSCRIPTION = "transcription model"
    LORA = "LoRA model"
    CONTEXT = "context length"
    FILES = "Files API"
    UPLOADS = "Uploads API"
    BATCHES = "Batch API"
    FORBIDDEN_KEY = "key that may not use the model"
    LIMITED_KEY = "key with a limit of requests"
    ADMIN = "administrator's key"
    ADAPTER = "path of an adapter"


class Mismatch(Exception):
    """What came is not what was expected.

    `root` is a fault that many cases would meet, such as errors without a request id; the report tells it once.
    """

    def __init__(self, expected: str, came: str, root: str = "") -> None:
        super().__init__(expected, came)
        self.expected = expected
        self.came = came
        self.root = root


class Inapplicable(Exception):
    """The deployment turned out to lack what the case asks for; its text is the reason."""


class Limited(Exception):
    """The deployment wants fewer requests; its text is its answer. That says nothing about what the case asks."""


@dataclass(frozen=True, slots=True)
class Case:
    """One question to a deployment. `check` returns if the answer is right."""

    id: str
    title: str
    expected: str
    check: Callable[[Bench], None]
    needs: tuple[Need, ...] = ()
    is_large: bool = False  # moves tens of megabytes or opens hundreds of streams
    time_factor: int = 1  # times the time limit that the case may take
    is_alone: bool = False  # no other case runs meanwhile, because it changes the engines


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a case. Texts are masked and bounded."""

    case: Case
    group: str
    verdict: Verdict
    milliseconds: int
    expected: str
    came: str = ""
    reason: str = ""  # of a skip
    root: str = ""  # of a failure: the fault that it shares with other cases


def by_root(results: Iterable[Result]) -> dict[str, list[Result]]:
    """The failures of several cases with the same root, the most common root first."""
    found: dict[str, list[Result]] = {}
    for result in results:
        if result.root:
            found.setdefault(result.root, []).append(result)
    shared = ((root, failures) for root, failures in found.items() if len(failures) > 1)
    return dict(sorted(shared, key=lambda one: -len(one[1])))
