"""Takes out of an engine's words what a client must not read.

File paths, addresses, command-line flags, environment variables, stack traces and lists of model aliases tell about
the inside of the fleet. What is left is one line of at most 512 characters, perhaps none at all.
"""

import re
from typing import Final

MAX_MESSAGE_CHARS: Final = 512

_MAX_INPUT_CHARS: Final = 2 * MAX_MESSAGE_CHARS

# From one of these on, nothing is for the client. (Spaces are single by then.)
_CUT: Final = re.compile(
    r"Traceback \(most recent call last\)|\bFile \"|\(parameter=|\(value=|Valid aliases:"
    r"|For further information visit|The above exception was|: \{'\w+': "
)
_SPACE: Final = re.compile(r"[\s\x00-\x20\x7f-\xa0]+")
# Each pattern can begin only where a token begins, or is bounded: the time stays linear in the text.
_LABEL_START: Final = r"(?<![\w-])(?<![\w-]\.)"
_REDACTED: Final = (
    # Where in its C++ source xgrammar complains, and what it had checked there.
    (re.compile(r"\[\d\d:\d\d:\d\d\] \S{1,256}:\d+: (?:Check failed: \([^ ]{1,256}\) is false: )?"), ""),
    (re.compile(r"data:[\w.+-]{1,64}/[^\s'\")]*"), "[data]"),
    (re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,15}://[^\s'\"<>]+"), "[url]"),
    (re.compile(r"\b(?:\d{1,3}\.){3}\d{1,3}(?::\d+)?"), "[address]"),
    (re.compile(r"\[(?=[^\]:]{0,40}:[^\]:]{0,40}:)[0-9A-Fa-f:.%]+\](?::\d+)?"), "[address]"),
    (re.compile(rf"\blocalhost(?::\d+)?\b|{_LABEL_START}[\w-]++(?:\.[\w-]++)++:\d{{2,5}}\b"), "[address]"),
    (
        re.compile(rf"{_LABEL_START}[\w-]++(?:\.[\w-]++)*?\.(?:svc|internal|local)(?![\w-])(?:\.[\w-]++)*"),
        "[address]",
    ),
    (re.compile(r" at 0x[0-9A-Fa-f]+"), ""),
    (re.compile(r"(?<![\w/])~?/(?!v\d+/|\w{1,16}>)[\w.+@~-]+(?:/[\w.+@~-]*)*"), "[path]"),
    (re.compile(r"(?<![\w./+@~-])[\w./+@~-]*\.(?:pyc?|so|cpp|cu|cuh|rs)\b(?::\d+)?"), "[path]"),
)
# Texts of Python's own exceptions: they speak of the engine's source, and of none of the request's fields.
_PYTHON: Final = re.compile(
    r"'[\w.]{1,64}' object (?:is|has|does|can)|object of type '\w|\bhas no attribute\b|\bNoneType\b"
    r"|\b(?:list|tuple|string|bytes|byte) ind(?:ex|ices) |argument of type '\w|unsupported operand type"
    r"|not supported between instances|unhashable type|unexpected keyword argument|missing \d+ required"
    r"|takes \d+ positional|invalid literal for|could not convert \w+ to |cannot convert float"
    r"|values to unpack|cannot unpack|dictionary update sequence|can only concatenate|must be str, not "
    r"|expected str instance|expected string or bytes|a bytes-like object|must be real number, not "
    r"|codec can't|surrogates not allowed|TextEncodeInput|maximum recursion depth|\b\w+(?:Error|Exception)\(|<class '"
    r"|^'\w{1,64}'$|^Expecting (?:value|property name|[,:'])|^Unterminated string|^Extra data: line"
    r"|^Invalid control character at|^Invalid \\"
)
_SENTENCE_END: Final = re.compile(r"(?<=[.!?;])\s+")
_INTERNAL: Final = re.compile(
    r"(?<![\w-])--[a-z][a-z0-9]|\bVLLM_[A-Z_]+|\bEngineCore\b|\bCUDA\b|\btorch\.|\bvllm\.\w+"
    r"|\bRuntimeError\b|\bAssertionError\b|\bTraceback\b|\bsite-packages\b|\bpydantic\b",
)


def is_python(text: str) -> bool:
    """Whether a message is the text of one of Python's own exceptions."""
    return _PYTHON.search(text[:_MAX_INPUT_CHARS]) is not None


def for_client(text: str) -> str:
    """The part of an engine's message that a client may read, as one line; empty if there is none."""
    text = _SPACE.sub(" ", text[:_MAX_INPUT_CHARS])
    cut = _CUT.search(text)
    if cut is not None:
        text = text[: cut.start()]
    text = redacted(text).strip()
    kept = [
        sentence
        for sentence in _SENTENCE_END.split(text)
        if not _INTERNAL.search(sentence) and not _PYTHON.search(sentence)
    ]
    return shortened(" ".join(kept).strip())


def redacted(text: str) -> str:
    """The text without paths, addresses and embedded data."""
    for pattern, replacement in _REDACTED:
        text = pattern.sub(replacement, text)
    return text


def shortened(text: str, limit: int = MAX_MESSAGE_CHARS) -> str:
    """The text, with an ellipsis if it is over the limit."""
    return text if len(text) <= limit else text[: limit - 3].rstrip() + "..."
