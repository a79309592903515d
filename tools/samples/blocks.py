"""The samples in a page: fenced blocks with a language, each followed by a block with what it prints."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

LANGUAGES: Final = ("python", "js", "http")
PRINTED: Final = ("text", "json")
# Where the pages say that the gateway is, and the model, key and address that readers replace.
ADDRESS: Final = "http://127.0.0.1:8080"
_BLOCK: Final = re.compile(r"^```(\w+)\n(.*?)^```\n", re.DOTALL | re.MULTILINE)

# What differs from run to run, as it is written down.
_VOLATILE: Final = (
    (re.compile(r"\b((?:chatcmpl|cmpl|embd|resp|msg|rs|fc|call|classify|score|rerank|pool|batch|file|upload|part|req|"
                r"generative-scoring|chatcmpl-tool|embed|ms|vllm)[-_])[0-9a-zA-Z_-]{8,}"), r"\1ID"),
    (re.compile(r'("?(?:created|created_at|expires_at|completed_at|in_progress_at|finalizing_at|bytes_at)"?[:=] ?)'
                r"\d{10}(?:\.\d+)?"), r"\g<1>1764460800"),
    (re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"), "ID"),
    (re.compile(r"\b[0-9a-f]{32}\b"), "ID"),
    (re.compile(r"http://127\.0\.0\.1:\d+"), ADDRESS),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sample:
    """A program or request, and what the page says that it prints; None if the page does not."""

    language: str
    text: str
    printed: str | None
    span: tuple[int, int]  # of the text inside of the printed block


def samples(page: str) -> Iterator[Sample]:
    """The samples of a page in order."""
    found = list(_BLOCK.finditer(page))
    for at, block in enumerate(found):
        if block[1] not in LANGUAGES:
            continue
        after = found[at + 1] if at + 1 < len(found) else None
        follows = after is not None and after[1] in PRINTED and _beside(page[block.end() : after.start()])
        printed = after if after is not None and follows else None
        yield Sample(block[1], block[2], printed and printed[2], printed.span(2) if printed else (0, 0))


def _beside(between: str) -> bool:
    """Whether a block belongs to the one before: at most one line of prose stands between them."""
    return len(between.strip().splitlines()) <= 1 and not between.lstrip().startswith("#")


def steady(text: str) -> str:
    """What a sample printed, without what differs from run to run."""
    for pattern, replacement in _VOLATILE:
        text = pattern.sub(replacement, text)
    return text.rstrip() + "\n" if text.strip() else ""


def recorded(page: str, prints: dict[int, str]) -> str:
    """The page with new texts in the blocks of its samples; `prints` by the number of the sample."""
    for number, sample in reversed(list(enumerate(samples(page)))):
        if number in prints and sample.printed is not None:
            page = page[: sample.span[0]] + prints[number] + page[sample.span[1] :]
    return page
