"""The samples of the reference as the SDK sends them, and the schemas that requests and answers must follow."""

import io
import json
from typing import Any

import httpx2
import openai
from openapi_schema_validator import OAS31Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

HOST = "http://gateway.example"
_PLACE = "https://document.example/"
_registries: dict[int, tuple[dict[str, Any], Registry[Any]]] = {}  # by the document, which is kept
_ANSWER = {"object": "list", "data": [{"object": "embedding", "embedding": []}]}  # what every call can read


def sent_by(sample: str) -> httpx2.Request:
    """The request that the SDK makes of a sample."""
    seen: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        request.read()
        seen.append(request)
        return httpx2.Response(200, json=_ANSWER)

    transport = httpx2.Client(transport=httpx2.MockTransport(answer))
    keys = {"api_key": "sk-x", "admin_api_key": "sk-y"}
    with openai.OpenAI(base_url=f"{HOST}/v1", **keys, http_client=transport, max_retries=0) as client:
        names = {"client": client, "open": lambda *_: io.BytesIO(b"RIFF"), "object": object, "str": str}
        eval(sample.replace("HOST", HOST), {"__builtins__": {}}, names)
    (request,) = seen
    return request


def component(name: str) -> dict[str, Any]:
    """A reference to a schema of the document."""
    return {"$ref": f"#/components/schemas/{name}"}


def faults(document: dict[str, Any], schema: dict[str, Any], value: object) -> list[str]:
    """Where a value does not follow a schema of the document."""
    # The document has a thousand schemas: a validator that must look for names in it costs 50 ms.
    referring = json.loads(json.dumps(schema).replace('"#/components/', f'"{_PLACE}#/components/'))
    return [error.message for error in OAS31Validator(referring, registry=_registry(document)).iter_errors(value)]


def _registry(document: dict[str, Any]) -> Registry[Any]:
    if id(document) not in _registries:
        resource = Resource.from_contents({"components": document["components"]}, DRAFT202012)
        _registries[id(document)] = (document, Registry().with_resource(_PLACE, resource).crawl())
    return _registries[id(document)][1]
