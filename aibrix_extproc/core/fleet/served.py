"""Computes which models an endpoint serves, from its source and from its engine's list.

The engine's list decides: a label, an annotation or a ModelAdapter gives names, and an engine that checks the
name of a model answers 404 to all others. Given names count alone while no list is known, and beside the list where the
engine takes any name. A source may also select (`Endpoint.selects`): then only the selected part of the list is served.
"""

from collections.abc import Collection, Iterable
from typing import Final

from aibrix_extproc.core.fleet.model import Endpoint, ServedModel

# Engines that answer 404 to a name that they do not list. SGLang, for example, ignores the field.
CHECK_NAMES: Final = frozenset({"vllm", "vllm-omni"})
MAX_NAMES: Final = 8  # of a warning
MAX_NAME_CHARACTERS: Final = 64  # of a name in a warning


def served(
    given: Endpoint, listed: tuple[ServedModel, ...], judged: Collection[str]
) -> tuple[tuple[ServedModel, ...], str]:
    """The models that an endpoint serves, and a warning about names that its engine does not list.

    `judged` holds the given names that were known when the engine was polled; a newer one counts until the next poll.
    """
    if not listed:
        return unique(given.models), ""
    known = {model.id: model for model in listed}
    missing = [model for model in given.models if model.id not in known]
    wrong = [model for model in missing if model.id in judged and given.engine in CHECK_NAMES]
    kept = [model for model in missing if model not in wrong]
    found = _selected(given.models, listed) if given.selects else listed
    return unique((*found, *kept)), _warning(given, wrong, known)


def unique(models: Iterable[ServedModel]) -> tuple[ServedModel, ...]:
    """Each id once, the first one: an engine that lists an id twice must not be picked twice."""
    first: dict[str, ServedModel] = {}
    for model in models:
        first.setdefault(model.id, model)
    return tuple(first.values())


def _selected(wanted: tuple[ServedModel, ...], listed: tuple[ServedModel, ...]) -> tuple[ServedModel, ...]:
    """The wanted part of a list: the names, with what the engine says of them, and the adapters on them."""
    if not wanted:
        return listed
    names = {model.id for model in wanted}
    return tuple(model for model in listed if model.id in names or model.parent in names)


def _warning(given: Endpoint, wrong: list[ServedModel], known: Iterable[str]) -> str:
    if not wrong:
        return ""
    names = _shown(model.id for model in wrong)
    where = "the fleet's configuration" if given.selects else "its label, annotation or ModelAdapter"
    return f"{where} names {names}, which the engine does not list and so is not served; it lists {_shown(known)}"


def _shown(names: Iterable[str]) -> str:
    quoted = [repr(name if len(name) <= MAX_NAME_CHARACTERS else name[:MAX_NAME_CHARACTERS] + "...") for name in names]
    rest = len(quoted) - MAX_NAMES
    return ", ".join(quoted[:MAX_NAMES]) + (f" and {rest} more" if rest > 0 else "")
