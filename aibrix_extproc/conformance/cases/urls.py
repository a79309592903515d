"""Acceptance 7.2: paths and methods."""

from typing import Final

from aibrix_extproc.conformance import samples
from aibrix_extproc.conformance.bench import Bench
from aibrix_extproc.conformance.case import Case, Inapplicable, Need
from aibrix_extproc.conformance.expect import (
    NO_CORS,
    check,
    expect_completion,
    expect_error,
    expect_json,
    expect_status,
)
from aibrix_extproc.conformance.wire import Answer

PREFLIGHTED: Final = (
    "/v1/chat/completions", "/v1/models", "/v1/embeddings", "/v1/responses", "/v1/audio/transcriptions",
)  # fmt: skip
SDK_HEADERS: Final = (
    "authorization", "content-type", "openai-organization", "x-stainless-arch", "x-stainless-lang",
    "x-stainless-retry-count",
)  # fmt: skip
OFTEN_ABSENT: Final = ("/v1/images/generations", "/v1/assistants", "/v1/fine_tuning/jobs")
TRAVERSALS: Final = (
    "/v1/models/..%2f..%2fmetrics", "/v1/models/../../metrics", "/v1/models/%2e%2e/%2e%2e/metrics", "/v1/../metrics",
)  # fmt: skip


def _unknown(bench: Bench) -> None:
    answer = bench.post("/v1/nope", bench.chat_body())
    expect_error(answer, 404)


def _without_v1(bench: Bench) -> None:
    answer = bench.post("/chat/completions", bench.chat_body())
    if answer.status == 200:  # an alias is allowed
        expect_completion(answer)
    else:
        expect_error(answer, 404)


def _v1_twice(bench: Bench) -> None:
    answer = bench.post("/v1/v1/chat/completions", bench.chat_body())
    if answer.status == 200:  # so is putting it right
        expect_completion(answer)
    else:
        expect_error(answer, 404)


def _served_at(path: str, bench: Bench) -> None:
    """Served or refused. A redirect makes a GET of the POST in some clients, and loses the body in others."""
    answer = bench.post(path, bench.chat_body())
    if answer.status == 404:
        expect_error(answer, 404)
    else:
        expect_completion(answer)


def _slash(bench: Bench) -> None:
    _served_at("/v1/chat/completions/", bench)


def _double_slash(bench: Bench) -> None:
    _served_at("//v1/chat/completions", bench)


def _query(bench: Bench) -> None:
    _served_at("/v1/chat/completions?api-version=1", bench)


def _get_chat(bench: Bench) -> None:
    answer = bench.send("GET", "/v1/chat/completions")
    expect_error(answer, 404, 405)
    check(answer.status == 404 or "POST" in answer.header("allow"), "Allow: POST on a 405", answer.header("allow"))


def _delete_models(bench: Bench) -> None:
    answer = bench.send("DELETE", "/v1/models")
    expect_error(answer, 404, 405)
    check(answer.status == 404 or "GET" in answer.header("allow"), "Allow: GET on a 405", answer.header("allow"))


def _head(bench: Bench) -> None:
    for path in ("/v1/models", "/v1/files/file-unknown"):
        answer = bench.talk(bench.head("HEAD", path, connection="close"))
        expect_status(answer, 200, 404, 405)
        check(answer.body == b"", "no body", answer)


def _preflight(bench: Bench) -> None:
    asked = {
        "origin": samples.ORIGIN, "access-control-request-method": "POST",
        "access-control-request-headers": ",".join(SDK_HEADERS),
    }  # fmt: skip
    for path in PREFLIGHTED:
        answer = bench.send("OPTIONS", path, headers=asked, key=False)
        check(200 <= answer.status < 300, "a success", answer, NO_CORS)
        origin = answer.header("access-control-allow-origin")
        check(origin in ("*", samples.ORIGIN), "the origin allowed", repr(origin), NO_CORS)
        allowed = {name.strip().lower() for name in answer.header("access-control-allow-headers").split(",")}
        missing = [name for name in SDK_HEADERS if name not in allowed]
        check("*" in allowed or not missing, "the SDK's headers allowed", f"without {missing}")


def _cross_origin(bench: Bench) -> None:
    answer = expect_status(bench.send("GET", "/v1/models", headers={"origin": samples.ORIGIN}), 200)
    origin = answer.header("access-control-allow-origin")
    check(origin in ("*", samples.ORIGIN), "the origin allowed", repr(origin), NO_CORS)
    exposed = answer.header("access-control-expose-headers")
    check("x-request-id" in exposed.lower(), "x-request-id exposed", repr(exposed))


def _not_served(bench: Bench) -> None:
    asked = {path: bench.post(path, {"model": "x"}) for path in OFTEN_ABSENT}
    absent = {path: answer for path, answer in asked.items() if not _is_served(answer)}
    for answer in absent.values():
        expect_error(answer, 404, 405, 501)
    if not absent:
        raise Inapplicable(f"the deployment serves {', '.join(asked)}")


def _is_served(answer: Answer) -> bool:
    """Whether the request was read, as far as the answer to an incomplete one shows it."""
    if answer.status in (404, 405, 501):
        return b"model_not_found" in answer.body
    return True


def _traversal(bench: Bench) -> None:
    for path in TRAVERSALS:
        answer = bench.send("GET", path)
        check(b"# HELP" not in answer.body, "no metrics", answer)
        expect_error(answer, 404)


def _input_tokens(bench: Bench) -> None:
    path = "/v1/responses/input_tokens"
    answer = bench.post(path, {"model": bench.model(), "input": "hello"})
    if answer.status == 200:
        check(isinstance(expect_json(answer).get("input_tokens"), int), "input_tokens as an integer", answer)
    else:
        expect_error(answer, 400, 404, 405, 501)


CASES: Final = (
    # id, title, expected, check, needs
    Case("URL-01", "unknown URL", "404 in shape", _unknown, (Need.CHAT,)),
    Case("URL-02", "path without /v1", "404 in shape, or served", _without_v1, (Need.CHAT,)),
    Case("URL-03", "/v1 twice", "404 in shape, or served", _v1_twice, (Need.CHAT,)),
    Case("URL-04", "trailing slash", "served or 404 in shape, no redirect", _slash, (Need.CHAT,)),
    Case("URL-05", "double slash", "served or 404 in shape, no redirect", _double_slash, (Need.CHAT,)),
    Case("URL-06", "query string", "200", _query, (Need.CHAT,)),
    Case("URL-07", "GET on /v1/chat/completions", "405 with Allow, or 404, in shape", _get_chat),
    Case("URL-08", "DELETE on /v1/models", "405 with Allow, or 404, in shape", _delete_models),
    Case("URL-09", "HEAD", "200, 404 or 405 without a body", _head),
    Case("URL-10", "preflight of a browser, no key", "2xx that allows the SDK's headers", _preflight),
    Case("URL-11", "GET from a browser's page", "origin allowed, x-request-id exposed", _cross_origin),
    Case("URL-12", "operations that are not served", "404 in shape", _not_served),
    Case("URL-13", "path traversal", "404, never another path", _traversal),
    Case("URL-14", "POST /v1/responses/input_tokens", "200 with a count, or refused in shape", _input_tokens,
         (Need.CHAT,)),
)  # fmt: skip
