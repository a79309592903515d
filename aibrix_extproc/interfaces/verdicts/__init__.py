"""What engines did with each field, measured through the gateway: `make measure` writes the files beside this one.

A file is named after what was measured: `vllm-0.33`. It has, for each operation, `request`: a verdict for each field;
`answer` and `events`: `seen`, `null` (present, and never more) or `absent`. An operation that an engine does not have
has only `refused`, with the `error`. `gateway` has the fields of stored objects, by `request` or `query`.
"""

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any, Final

Json = dict[str, Any]

# Members of a verdict:
# - `verdict`: `honoured` (changes the answer: `seen` says where), `checked` (no effect in the answer, but a wrong value
#   is refused), `ignored` (any value passes without an effect) or `refused` (a good value is the `error`)
# - `why`: why no effect can be seen
# - `wrong`: what a value of a wrong type gives; `bounds`: what values at the limits give: `ok`, or status, code, param
# - `otherwise`: what a caller without `engine_controls` gets; the rest was then measured with it
# - `beside`: the error that comes without the field, too: the object around it is refused
NEWEST: Final = "vllm-0.33"
RUST: Final = "vllm-0.33-rust"
# What the reference calls them beside the newest.
MEASURED: Final[Mapping[str, str]] = MappingProxyType({"vllm-0.32": "0.32", RUST: "Rust frontend", NEWEST: "0.33"})
STORED: Final = "gateway"


@cache
def verdicts(name: str = NEWEST) -> Mapping[str, Json]:
    """By operation: `request`, `answer` and `events`, each by the path of a field."""
    found: Json = json.loads((files(__package__) / f"{name}.json").read_text("utf-8"))
    return found
