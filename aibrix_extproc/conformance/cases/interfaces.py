"""Acceptance 7.14: what a key is told of the interface, where a deployment tells it."""

from typing import Any, Final

from aibrix_extproc.conformance.bench import Bench
from aibrix_extproc.conformance.case import Case, Inapplicable, Need
from aibrix_extproc.conformance.expect import check, expect_error, expect_json, expect_status
from aibrix_extproc.conformance.wire import Answer

LIST: Final = "/v1/interfaces"
CHAT: Final = f"{LIST}/chat_completion"
_MEMBERS: Final = frozenset({"id", "object", "method", "path", "api_version", "streaming", "limits", "deprecations"})


def _asked(bench: Bench, path: str, **headers: str) -> Answer:
    answer = bench.send("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    if answer.status == 404 and path == LIST:
        raise Inapplicable("the deployment does not describe its interfaces")
    return answer


def _described(bench: Bench) -> None:
    listed: list[dict[str, Any]] = expect_json(_asked(bench, LIST)).get("data", [])
    chat = next((one for one in listed if one.get("id") == "chat_completion"), None)
    check(chat is not None, "chat_completion among the interfaces", [one.get("id") for one in listed])
    assert chat is not None
    check(set(chat) >= _MEMBERS, f"the members {sorted(_MEMBERS)}", sorted(chat))
    check(bench.model() in [one["id"] for one in chat["models"]], f"the model {bench.model()}", chat["models"])
    whole = expect_json(_asked(bench, CHAT))
    for name in ("input_schema", "output_schema", "event_schema"):
        check(isinstance(whole.get(name), dict) and whole[name], f"a JSON Schema as {name}", whole.get(name))
    expect_error(_asked(bench, f"{LIST}/no_such_operation"), 404)


def _unchanged(bench: Bench) -> None:
    _asked(bench, LIST)
    answer = expect_status(_asked(bench, CHAT), 200)
    tag = answer.header("etag")
    check(tag, "an etag", answer)
    again = expect_status(_asked(bench, CHAT, if_none_match=tag), 304)
    check(not again.body, "no body", again)


def _document(bench: Bench) -> None:
    _asked(bench, LIST)
    document = expect_json(bench.send("GET", "/v1/openapi.json"))
    check(str(document.get("openapi", "")).startswith("3."), "OpenAPI 3", document.get("openapi"))
    operation = document.get("paths", {}).get("/v1/chat/completions", {}).get("post", {})
    check(operation.get("operationId") and "200" in operation.get("responses", {}), "the chat operation", operation)


CASES: Final = (
    Case("IF-01", "interfaces of a key", "members, models, limits, and schemas of each", _described, (Need.CHAT,)),
    Case("IF-02", "interface that has not changed", "304 without a body", _unchanged, (Need.CHAT,)),
    Case("IF-04", "OpenAPI document of a key", "OpenAPI 3 with the chat operation", _document, (Need.CHAT,)),
)
