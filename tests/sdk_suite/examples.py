"""The smallest value that a type of the SDK accepts. Runs in the suite's environment; knows nothing of the gateway."""

import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, TypeAdapter

_PLAIN: dict[Any, object] = {str: "string", int: 1, float: 1.0, bool: True, object: {}, Any: {}}


def example(kind: Any) -> Any:
    """JSON that validates as this type; fields that may be absent are left out."""
    origin = get_origin(kind)
    if origin is Annotated:
        return example(get_args(kind)[0])
    if origin is Literal:
        return get_args(kind)[0]
    if origin in (Union, types.UnionType):
        return None if type(None) in get_args(kind) else example(get_args(kind)[0])
    if origin is list or kind is list:
        return []
    if origin is dict or kind is dict:
        return {}
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        fields = kind.model_fields.items()
        return {field.alias or name: example(field.annotation) for name, field in fields if field.is_required()}
    return _PLAIN.get(kind, {})


def checked(kind: Any, **values: object) -> Any:
    """An example with some values set; raises if the SDK's type does not accept it."""
    made = example(kind) | values
    TypeAdapter(kind).validate_python(made)
    return made
