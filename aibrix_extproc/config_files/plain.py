"""YAML nodes as plain values, for parts of a file that have a parser of their own."""

import math
import re
from collections.abc import Mapping
from typing import Final, NoReturn

from yaml.nodes import MappingNode, ScalarNode

from aibrix_extproc.config_files.nodes import Place

MAX_ITEMS: Final = 1000
_INTEGER: Final = re.compile(r"[-+]?[0-9][0-9_]{0,40}")
_FLOAT: Final = re.compile(r"[-+]?([0-9]{1,40}\.?[0-9]{0,40}|\.[0-9]{1,40})([eE][-+]?[0-9]{1,4})?")
_SPECIAL: Final = {".nan": math.nan, ".inf": math.inf, "-.inf": -math.inf}


def plain(place: Place) -> object:
    """Mappings, lists, numbers, texts, booleans and nothing, as YAML's core schema reads them."""
    if isinstance(place.node, MappingNode):
        return {name: plain(value) for name, value in place.fields().items()}
    if not isinstance(place.node, ScalarNode):
        return [plain(item) for item in place.items(MAX_ITEMS)]
    text = str(place.node.value)
    if place.node.style in ("'", '"'):
        return text
    lowered = text.lower()
    if lowered in ("", "~", "null"):
        return None
    if lowered in ("true", "false"):
        return lowered == "true"
    if lowered in _SPECIAL:
        return _SPECIAL[lowered]
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text


def fail_at(place: Place, field: str, reason: str) -> NoReturn:
    """Refuse the node at a dotted path below a place, or the deepest one of it that there is."""
    for name in field.split(".") if field else ():
        inner: Mapping[str, Place] = place.fields() if isinstance(place.node, MappingNode) else {}
        if name not in inner:
            reason = f"{name}: {reason}"
            break
        place = inner[name]
    place.fail(reason)
