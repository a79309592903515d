"""Acceptance 7.1, keys."""

import json
from typing import Final

from aibrix_extproc.conformance import samples, sdk
from aibrix_extproc.conformance.bench import JSON, Bench
from aibrix_extproc.conformance.case import Case, Need
from aibrix_extproc.conformance.expect import NO_401, check, expect_error, expect_json, expect_status

# Of engines, and of the gateway. Asked in ways that do nothing where they are served: no body that any could obey.
ADMINISTRATION: Final = (
    ("POST", "/invocations"), ("POST", "/v1/load_lora_adapter"), ("POST", "/v1/unload_lora_adapter"),
    ("POST", "/collective_rpc"), ("GET", "/docs"), ("GET", "/openapi.json"), ("GET", "/metrics"),
    ("GET", "/server_info"), ("GET", "/is_sleeping"), ("GET", "/admin/v1/keys"), ("GET", "/admin/v1/audit"),
)  # fmt: skip


def _no_key(bench: Bench) -> None:
    error = expect_error(bench.send("GET", "/v1/models", key=False), 401)
    check(error["type"] == "invalid_request_error", "type invalid_request_error", error)


def _wrong_key(bench: Bench) -> None:
    client, calls = bench.counted_client(api_key=samples.WRONG_KEY, max_retries=2)
    raised, answer = sdk.refused(client.models.list, "AuthenticationError", NO_401)
    error = expect_error(answer, 401, code="invalid_api_key")
    check(raised.code == "invalid_api_key", "e.code == 'invalid_api_key'", raised.code)
    check(samples.WRONG_KEY not in error["message"], "the key masked in the message", error)
    check(len(calls) == 1, "one call, no retries", f"{len(calls)} calls")


def _forms(bench: Bench) -> None:
    key = bench.target.api_key
    for value in (f"Bearer {key}", f"bearer {key}", f"Bearer   {key}"):
        expect_status(bench.send("GET", "/v1/models", headers={"authorization": value}), 200)
    for value in ("Basic eDp5", "Bearer", ""):
        expect_error(bench.send("GET", "/v1/models", headers={"authorization": value}), 401)


def _first(bench: Bench) -> None:
    headers = {**JSON, "authorization": f"Bearer {samples.WRONG_KEY}"}
    body = json.dumps({"model": samples.UNKNOWN_MODEL, "messages": samples.HELLO}).encode()
    for path in ("/v1/no-such-url", "/v1/chat/completions", "/v1/embeddings"):
        expect_error(bench.send("POST", path, body, headers), 401, code="invalid_api_key")


def _before_the_body(bench: Bench) -> None:
    head = bench.head(
        "POST", "/v1/chat/completions", authorization=f"Bearer {samples.WRONG_KEY}",
        content_type="application/json", content_length="20000000", connection="close",
    )  # fmt: skip
    expect_error(bench.talk(head), 401, code="invalid_api_key")  # not one byte of the body is sent


def _forbidden_model(bench: Bench) -> None:
    headers = {"authorization": f"Bearer {bench.target.forbidden_key}"}
    expect_error(bench.chat(headers=headers), 403, 404)
    listed = expect_json(bench.send("GET", "/v1/models", headers=headers))
    ids = [card.get("id") for card in listed.get("data", [])]
    check(bench.model() not in ids, f"{bench.model()} absent from the key's models", ids)


def _messages_key(bench: Bench) -> None:
    headers = {"x-api-key": str(bench.target.api_key)}
    body = {"model": bench.model(), "max_tokens": 4, "messages": list(samples.HELLO)}
    answer = expect_json(bench.post("/v1/messages", body, headers, key=False))
    check(answer.get("type") == "message", "an object of type message", answer)


def _administration(bench: Bench) -> None:
    for method, path in ADMINISTRATION:
        body = b"" if method == "POST" else None
        expect_error(bench.send(method, path, body, JSON if method == "POST" else {}), 403, 404)


CASES: Final = (
    # id, title, expected, check, needs
    Case("AUTH-01", "no key", "401 in shape", _no_key, (Need.KEY,)),
    Case("AUTH-02", "wrong key through the SDK", "AuthenticationError invalid_api_key after one call, key masked",
         _wrong_key, (Need.KEY,)),
    Case("AUTH-03", "forms of the Authorization header", "bearer in any case and spacing 200, others 401", _forms,
         (Need.KEY,)),
    Case("AUTH-04", "wrong key on an unknown URL and model", "401 wins over 404", _first, (Need.KEY,)),
    Case("AUTH-05", "wrong key with a large body", "401 before the body is read", _before_the_body, (Need.KEY,)),
    Case("AUTH-07", "key that may not use the model", "403 or 404, the model is not listed", _forbidden_model,
         (Need.FORBIDDEN_KEY, Need.CHAT)),
    Case("AUTH-08", "x-api-key on /v1/messages", "200", _messages_key, (Need.KEY, Need.CHAT)),
    Case("AUTH-10", "administration of engines and of the gateway", "404 or 403 in shape", _administration),
)  # fmt: skip
