"""Takes out of an engine's words what a client must not read.

File paths, addresses, command-line flags, environment variables, stack traces and lists of model aliases tell about
the inside of the fleet. What is left is one line of at most 512 characters, perhaps none at all.
"""

import re
from typing import Final

MAX_MESSAGE_CHARS: Final = 512

_MAX_INPUT_CHARS: Final = 8192

# From one of these on, nothing is for the client.
_CUT: Final = re.compile(
    r"\s*(?:Traceback \(most recent call last\)|^\s*File \"|\(parameter=|\(value=|Valid aliases:"
    r"|For further information visit|The above exception was)",
    re.MULTILINE,
)
_SPACE: Final = re.compile(r"[\s\x00-\x20\x7f-\xa0]+")
_REDACTED: Final = (
    (re.compile(r"data:[\w.+-]+/[\w.+-]+;?[^\s'\")]*"), "[data]"),
    (re.compile(r"\b[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>]+"), "[url]"),
    (re.compile(r"\b(?:\d{1,3}\.){3}\d{1,3}(?::\d+)?"), "[address]"),
    (re.compile(r"\[(?=[^\]:]*:[^\]:]*:)[0-9A-Fa-f:.%]+\](?::\d+)?"), "[address]"),
    (re.compile(r"\blocalhost(?::\d+)?\b|\b[\w-]+(?:\.[\w-]+)+:\d{2,5}\b"), "[address]"),
    (re.compile(r"[\w.-]+\.(?:svc|internal|local)(?:\.[\w-]+)*\b"), "[address]"),
    (re.compile(r" at 0x[0-9A-Fa-f]+"), ""),
    (re.compile(r"(?<![\w/])~?/(?!v\d+/|\w+>)[\w.+@~-]+(?:/[\w.+@~-]*)*"), "[path]"),
    (re.compile(r"[\w./+@~-]*[\w/]\.(?:pyc?|so|cpp|cu|cuh|rs)\b(?::\d+)?"), "[path]"),
)
_SENTENCE_END: Final = re.compile(r"(?<=[.!?;])\s+")
_INTERNAL: Final = re.compile(
    r"(?<![\w-])--[a-z][a-z0-9]+(?:-[a-z0-9]+)*|\bVLLM_[A-Z_]+|\bEngineCore\b|\bCUDA\b|\btorch\.|\bvllm\.\w+"
    r"|\bRuntimeError\b|\bAssertionError\b|\bTraceback\b|\bsite-packages\b|\bpydantic\b",
)


def for_client(text: str) -> str:
    """The part of an engine's message that a client may read, as one line; empty if there is none."""
    text = text[:_MAX_INPUT_CHARS]
    cut = _CUT.search(text)
    if cut is not None:
        text = text[: cut.start()]
    text = redacted(_SPACE.sub(" ", text)).strip()
    kept = [sentence for sentence in _SENTENCE_END.split(text) if not _INTERNAL.search(sentence)]
    return shortened(" ".join(kept).strip())


def redacted(text: str) -> str:
    """The text without paths, addresses and embedded data."""
    for pattern, replacement in _REDACTED:
        text = pattern.sub(replacement, text)
    return text


def shortened(text: str, limit: int = MAX_MESSAGE_CHARS) -> str:
    """The text, with an ellipsis if it is over the limit."""
    return text if len(text) <= limit else text[: limit - 3].rstrip() + "..."
