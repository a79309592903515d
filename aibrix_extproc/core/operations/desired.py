"""Desired adapters: the records of the control section `adapters`, and how they are read from JSON.

A record says what should be loaded where; `reconcile` plans the steps towards it.
"""

from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

from aibrix_extproc.core.openai.contract.errors import Problem
from aibrix_extproc.core.openai.contract.operations import shown
from aibrix_extproc.core.openai.contract.refusals import json_type

SECTION: Final = "adapters"
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


_FIELDS: Final = ("path", "base", "replicas", "placement", "pinned", "lazy")


def read_adapter(name: str, fields: Mapping[str, Any]) -> DesiredAdapter | Problem:
    """The record of that name, or the refusal of what is wrong with it."""
    problem = _name_problem("name", name)
    for key in fields:
        if problem is None and key not in (*_FIELDS, "name", "replace"):
            problem = Problem("unknown_parameter", {"param": shown(key, 64)}, param=shown(key, 64))
    if problem is None and fields.get("name", name) != name:
        problem = _invalid("name", "must be the name in the URL, or be left out")
    problem = problem or _path_problem(fields.get("path")) or _name_problem("base", fields.get("base"))
    if problem is None and fields["base"] == name:
        problem = _invalid("name", "is the name of the base model; choose another one")
    problem = problem or _replicas_problem(fields.get("replicas", ALL)) or _placement_problem(fields.get("placement"))
    problem = problem or _flag_problem(fields, "pinned") or _flag_problem(fields, "lazy")
    if problem is not None:
        return problem
    return DesiredAdapter(
        name, fields["path"], fields["base"], fields.get("replicas", ALL), dict(fields.get("placement") or {}),
        fields.get("pinned") or False, fields.get("lazy") or False,
    )  # fmt: skip


def _name_problem(param: str, name: object) -> Problem | None:
    if name is None:
        return Problem("missing_required_parameter", {"param": param}, param=param)
    if not isinstance(name, str):
        return _wrong_type(param, "a string", name)
    if not name or len(name) > MAX_NAME_CHARACTERS or not name.isprintable() or name != name.strip():
        return _invalid(param, f"must be 1 to {MAX_NAME_CHARACTERS} printable characters without spaces around them")
    return None


def _path_problem(path: object) -> Problem | None:
    if path is None:
        return Problem("missing_required_parameter", {"param": "path"}, param="path")
    if not isinstance(path, str):
        return _wrong_type("path", "a string", path)
    if not path or len(path) > MAX_PATH_CHARACTERS or not path.isprintable() or path != path.strip():
        return _invalid("path", f"must be 1 to {MAX_PATH_CHARACTERS} printable characters without spaces around them")
    scheme, separator, rest = path.partition("://")
    if separator and (scheme not in SCHEMES or not rest):
        return _invalid("path", f"may be a URL of {', '.join(SCHEMES)} only")
    if "\\" in path or any(segment in (".", "..") for segment in path.split("/")):
        return _invalid("path", "must not have the segments `.` and `..`, nor backslashes")
    if path.startswith(("~", "-")):
        return _invalid("path", "must be absolute, the id of a repository, or a URL")
    return None


def _replicas_problem(replicas: object) -> Problem | None:
    if replicas == ALL:
        return None
    if not isinstance(replicas, int) or isinstance(replicas, bool):
        return _wrong_type("replicas", 'an integer or "all"', replicas)
    if not 1 <= replicas <= MAX_REPLICAS:
        return _invalid("replicas", f'must be from 1 to {MAX_REPLICAS}, or "all"')
    return None


def _placement_problem(placement: object) -> Problem | None:
    if placement is None:
        return None
    if not isinstance(placement, dict):
        return _wrong_type("placement", "an object of labels", placement)
    texts = [text for pair in placement.items() for text in pair]
    if any(not isinstance(text, str) for text in texts):
        return _invalid("placement", "must have texts as values")
    if len(placement) > MAX_LABELS or any(len(text) > MAX_LABEL_CHARACTERS for text in texts):
        return _invalid("placement", f"may have {MAX_LABELS} labels of {MAX_LABEL_CHARACTERS} characters")
    return None


def _flag_problem(fields: Mapping[str, Any], name: str) -> Problem | None:
    value = fields.get(name)
    return None if value is None or isinstance(value, bool) else _wrong_type(name, "a boolean", value)


def _wrong_type(param: str, expected: str, value: object) -> Problem:
    return Problem("invalid_type", {"param": param, "expected": expected, "got": json_type(value)}, param=param)


def _invalid(param: str, rule: str) -> Problem:
    return Problem("invalid_value", {"message": f"Invalid '{param}': it {rule}."}, param=param)
