"""Desired adapters: the records of the control section `adapters`, and how they are read from JSON.

A record says what should be loaded where; `reconcile` plans the steps towards it.
"""

from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

from aibrix_extproc.core.openai.contract.errors import Problem
from aibrix_extproc.core.operations.field_checks import checked_flag, checked_name, invalid, unknown_field, wrong_type

ALL: Final = "all"
MAX_NAME_CHARACTERS: Final = 256
MAX_PATH_CHARACTERS: Final = 4096
MAX_REPLICAS: Final = 10_000
MAX_LABELS: Final = 16
MAX_LABEL_CHARACTERS: Final = 253

# Schemes of artifacts that a runtime sidecar or a resolver of the engine downloads.
SCHEMES: Final = ("s3", "gs", "gcs", "tos", "hf", "huggingface")


class DesiredAdapter(msgspec.Struct, frozen=True, omit_defaults=True):
    """One LoRA adapter as it should be loaded."""

    name: str  # the model's name for clients
    path: str  # a path in the engines' file system, the id of a repository, or a URL of a scheme of SCHEMES
    base: str  # the model that it adapts
    replicas: int | Literal["all"] = ALL
    placement: Mapping[str, str] = {}  # labels that an endpoint must have
    pinned: bool = False  # is never unloaded to make room for another one
    lazy: bool = False  # is loaded with the first request for it, and unloaded where others need the room
    source: str = ""  # what declares it, if not the admin interface


_FIELDS: Final = frozenset({"name", "path", "base", "replicas", "placement", "pinned", "lazy"})


def read_adapter(name: str, fields: Mapping[str, Any]) -> DesiredAdapter | Problem:
    """The record of that name, or the refusal of what is wrong with it."""
    problem = checked_name("name", name, MAX_NAME_CHARACTERS) or unknown_field(fields, _FIELDS)
    if problem is None and fields.get("name", name) != name:
        problem = invalid("name", "must be the name in the URL, or be left out")
    problem = problem or _path_problem(fields.get("path"))
    problem = problem or checked_name("base", fields.get("base"), MAX_NAME_CHARACTERS)
    if problem is None and fields["base"] == name:
        problem = invalid("name", "is the name of the base model; choose another one")
    problem = problem or _replicas_problem(fields.get("replicas")) or _placement_problem(fields.get("placement"))
    problem = problem or checked_flag(fields, "pinned") or checked_flag(fields, "lazy")
    if problem is not None:
        return problem
    given = {key: value for key, value in fields.items() if value is not None and key != "name"}
    return DesiredAdapter(name, **given)


def _path_problem(path: object) -> Problem | None:
    problem = checked_name("path", path, MAX_PATH_CHARACTERS)
    if problem is not None or not isinstance(path, str):
        return problem
    scheme, separator, rest = path.partition("://")
    if separator and (scheme not in SCHEMES or not rest):
        return invalid("path", f"may be a URL of {', '.join(SCHEMES)} only")
    if "\\" in path or any(segment in (".", "..") for segment in path.split("/")):
        return invalid("path", "must not have the segments `.` and `..`, nor backslashes")
    if path.startswith(("~", "-")):
        return invalid("path", "must be absolute, the id of a repository, or a URL")
    return None


def _replicas_problem(replicas: object) -> Problem | None:
    if replicas is None or replicas == ALL:
        return None
    if not isinstance(replicas, int) or isinstance(replicas, bool):
        return wrong_type("replicas", 'an integer or "all"', replicas)
    if not 1 <= replicas <= MAX_REPLICAS:
        return invalid("replicas", f'must be from 1 to {MAX_REPLICAS}, or "all"')
    return None


def _placement_problem(placement: object) -> Problem | None:
    if placement is None:
        return None
    if not isinstance(placement, dict):
        return wrong_type("placement", "an object of labels", placement)
    texts = [text for pair in placement.items() for text in pair]
    if any(not isinstance(text, str) for text in texts):
        return invalid("placement", "must have texts as values")
    if len(placement) > MAX_LABELS or any(len(text) > MAX_LABEL_CHARACTERS for text in texts):
        return invalid("placement", f"may have {MAX_LABELS} labels of {MAX_LABEL_CHARACTERS} characters")
    return None
