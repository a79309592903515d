"""Bounds the nesting of YAML before anything is built of it, by our own rule and in our own words.

PyYAML's composers recurse: deep nesting overflows the C stack in one and ends in a RecursionError in the other. Newer
versions have a bound of their own, which is reached while they look ahead, before they tell of any level.
"""

from collections.abc import Iterable
from typing import Any, Final

import yaml

MAX_OWN_DEPTH: Final = 16  # files of our own formats; they need 5
MAX_FOREIGN_DEPTH: Final = 100  # Kubernetes objects and kubeconfigs; schemas in definitions nest to about 40
TOO_DEEP: Final = "nested too deeply; nothing here needs that"
_LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times faster; absent without libyaml


class TooDeepError(yaml.MarkedYAMLError):
    """The text nests more deeply than its format needs."""


def refuse_depth(text: str, limit: int) -> None:
    """Raise TooDeepError for a text that nests more deeply than `limit`; other YAMLErrors for what is no YAML."""
    try:
        _walk(text, limit)
    except TooDeepError:
        raise
    except yaml.MarkedYAMLError as error:
        if error.problem_mark is not None:
            # The parser may have stopped at a bound of its own. What stands before that place tells how deep it was.
            _walk_start(text[: error.problem_mark.index], limit)
        raise


def load(text: str, limit: int = MAX_OWN_DEPTH) -> Any:
    """The one document of a text as plain values."""
    refuse_depth(text, limit)
    return yaml.load(text, Loader=_LOADER)


def load_all(text: str, limit: int = MAX_FOREIGN_DEPTH) -> Iterable[Any]:
    """All documents of a text as plain values."""
    refuse_depth(text, limit)
    return list(yaml.load_all(text, Loader=_LOADER))


def _walk(text: str, limit: int) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > limit:
            mark: Any = event.start_mark  # of libyaml's kind or of Python's, which have the same fields
            raise TooDeepError(problem=TOO_DEEP, problem_mark=mark)


def _walk_start(text: str, limit: int) -> None:
    try:
        _walk(text, limit)
    except TooDeepError:
        raise
    except yaml.YAMLError:
        return  # it is cut, so it must end badly
