"""docs/configuration.md: every setting with its three names, made of the fields of the settings."""

from enum import Enum
from types import UnionType
from typing import Annotated, Any, Final, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from aibrix_extproc.cli.reference_fleetfile import fleet_file_section
from aibrix_extproc.cli.reference_markdown import NOTHING, code, page, table
from aibrix_extproc.settings import ENV_NESTED_DELIMITER, ENV_PREFIX, Settings, flag_name, is_list, variable_name

EXAMPLE: Final = """
server:
  port: 9002
fleet:
  file: fleet.yaml
routing:
  strategy: predicted
log:
  format: text
"""

_HEAD: Final = f"""
A setting has a place in a YAML file (`--config FILE`), a variable in the environment and a command-line option.
Flags win over the environment, the environment over the file. A name that does not exist is an error wherever it
stands. `aibrix-extproc config` prints what is in effect and where each value came from, without showing keys.
It ends with 0 if `serve` would start with these settings and could read its files, else with 2 and a sentence for each
reason; it tries no port and asks no engine, name server or cluster.

```yaml
{EXAMPLE.strip()}
```

In the environment lists are separated by commas (`{ENV_PREFIX}FLEET{ENV_NESTED_DELIMITER}ENDPOINTS=http://a:8000,http://b:8000`);
an empty variable counts as none. On the command line the option of a list is repeated. Engines may be named in a file
of their own: [the fleet file](#the-fleet-file).
"""

_TYPE_NAMES: Final = {int: "integer", float: "number", bool: "true or false", SecretStr: "text, secret"}


def configuration_page() -> str:
    """The page."""
    groups = (_group(name, info) for name, info in Settings.model_fields.items())
    return page("Configuration", _HEAD, *groups, fleet_file_section())


def _group(group: str, info: FieldInfo) -> str:
    model = info.annotation
    assert isinstance(model, type)
    assert issubclass(model, BaseModel)
    rows = (_row(group, name, field) for name, field in model.model_fields.items())
    head = ("YAML key", "environment variable", "flag", "default", "values", "meaning")
    return f"## {group}\n\n{(model.__doc__ or '').strip()}\n\n{table(head, rows)}"


def _row(group: str, name: str, field: FieldInfo) -> tuple[str, ...]:
    return (
        code(f"{group}.{name}"),
        code(variable_name(group, name)),
        _flag(group, name, field),
        _default(field.default),
        _values(field),
        field.description or "",
    )


def _flag(group: str, name: str, field: FieldInfo) -> str:
    flag = flag_name(group, name)
    if field.annotation is bool:
        return f"{code(flag)}, {code('--no-' + flag.removeprefix('--'))}"
    return f"{code(flag)}, repeatable" if is_list(field) else code(flag)


def _default(value: object) -> str:
    match value:
        case None | ():
            return NOTHING
        case bool():
            return code(str(value).lower())
        case Enum():
            return code(str(value.value))
        case _:
            return code(str(value))


def _values(field: FieldInfo) -> str:
    kind = _kind(field.annotation)
    low, high = (
        next(
            (found for one in _constraints(field) for name in names if (found := getattr(one, name, None)) is not None),
            None,
        )
        for names in (("ge", "gt"), ("le", "lt"))
    )
    if low is None and high is None:
        return kind
    above = "above " if any(getattr(one, "gt", None) is not None for one in _constraints(field)) else ""
    return f"{kind}, {above}{_number(low)} to {_number(high)}"


def _constraints(field: FieldInfo) -> list[Any]:
    """Bounds of the field and of an annotated type, which pydantic keeps inside one another."""
    found: list[Any] = []
    for one in field.metadata:
        found += one.metadata if isinstance(one, FieldInfo) else [one]
    return found


def _kind(annotation: Any) -> str:
    if get_origin(annotation) is Annotated:
        return _kind(get_args(annotation)[0])
    if get_origin(annotation) is tuple:
        return f"list of {_kind(get_args(annotation)[0])}"
    if get_origin(annotation) is UnionType or type(None) in get_args(annotation):
        return _kind(next(one for one in get_args(annotation) if one is not type(None)))
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return ", ".join(code(str(member.value)) for member in annotation)
    return _TYPE_NAMES.get(annotation, "path" if getattr(annotation, "__name__", "") == "Path" else "text")


def _number(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
