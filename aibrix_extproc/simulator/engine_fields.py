"""The fields of vLLM on which no simulated answer depends: only their types are checked, by vLLM's own schemas."""

import json
from collections.abc import Mapping
from functools import cache, reduce
from importlib.resources import files
from operator import or_
from types import GenericAlias, MappingProxyType
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, Field, create_model

from aibrix_extproc.simulator import requests

Json = dict[str, Any]

_SCHEMAS: Final = "vllm-0.33.json"
_REFERENCE: Final = "#/$defs/"
_OPERATIONS: Final[Mapping[type[BaseModel], str]] = MappingProxyType({
    requests.ChatBody: "chat_completion",
    requests.CompletionBody: "completion",
    requests.ResponsesBody: "response",
    requests.MessagesBody: "message",
    requests.CountTokensBody: "count_tokens",
    requests.EmbeddingBody: "embedding",
    requests.PoolingBody: "pooling",
    requests.CohereEmbedBody: "embed_cohere",
    requests.GenerativeScoringBody: "generative_scoring",
    requests.ScoreBody: "score",
    requests.RerankBody: "rerank",
    requests.TokenizeBody: "tokenize",
    requests.DetokenizeBody: "detokenize",
})  # fmt: skip
_SCALARS: Final[Mapping[str, Any]] = MappingProxyType({
    "string": str, "integer": int, "number": float, "boolean": bool, "null": None,
})  # fmt: skip


@cache
def other_fields(model: type[BaseModel]) -> type[BaseModel] | None:
    """A model of the fields that vLLM knows and `model` does not declare; None if there is no schema."""
    operation = _OPERATIONS.get(model)
    if operation is None:
        return None
    types = {name: kind for name, kind in _types(operation).items() if name not in model.model_fields}
    return _model(f"Other{model.__name__}", types)


def values_of(body: BaseModel) -> Json:
    """The values of a request's fields that vLLM knows, by its types; it ignores all others."""
    extra = body.model_extra
    others = other_fields(type(body)) if extra else None
    return vars(body) | (others.model_validate(extra).model_dump(exclude_unset=True) if others else {})


@cache
def form_fields(operation: str) -> type[BaseModel]:
    """A model of the fields of a form."""
    return _model(f"Form{operation}", _types(operation))


def _model(name: str, types: Mapping[str, Any]) -> type[BaseModel]:
    fields: Json = {field: (kind, None) for field, kind in types.items() if not field.startswith("_")}
    made: type[BaseModel] = create_model(name, **fields)
    return made


def _types(operation: str) -> Mapping[str, Any]:
    """The type of each field of a request, of all its forms together."""
    document = json.loads((files("aibrix_extproc.interfaces") / "schemas" / _SCHEMAS).read_text("utf-8"))
    definitions = document["$defs"]
    properties: Json = {}
    for variant in _objects(document["operations"][operation]["request"], definitions):
        for name, schema in variant["properties"].items():
            properties.setdefault(name, []).append(_type(schema, definitions))
    return {name: reduce(or_, kinds) for name, kinds in properties.items()}


def _objects(schema: Json, definitions: Json) -> list[Json]:
    if "$ref" in schema:
        return _objects(definitions[schema["$ref"].removeprefix(_REFERENCE)], definitions)
    return [one for inner in schema.get("anyOf", ()) for one in _objects(inner, definitions)] or [schema]


def _type(schema: Json, definitions: Json) -> Any:
    """The type of values that follow a schema; of objects only that they are some."""
    if "$ref" in schema:
        return _type(definitions[schema["$ref"].removeprefix(_REFERENCE)], definitions)
    if "anyOf" in schema:
        return reduce(or_, (_type(one, definitions) for one in schema["anyOf"]))
    if "enum" in schema or "const" in schema:
        return Literal[tuple(schema.get("enum", [schema.get("const")]))]
    kind = schema.get("type", "object" if "properties" in schema else "")
    if kind == "array":
        items = _type(schema.get("items") or {}, definitions)
        return GenericAlias(list, (items,))
    if kind == "object":
        values = schema.get("additionalProperties")
        return GenericAlias(dict, (str, _type(values, definitions) if isinstance(values, dict) else Any))
    if kind not in _SCALARS:
        return Any
    limits = Field(
        ge=schema.get("minimum"), le=schema.get("maximum"), min_length=schema.get("minLength"),
        max_length=schema.get("maxLength"),
    )  # fmt: skip
    return Annotated[_SCALARS[kind], limits] if kind != "null" else None
