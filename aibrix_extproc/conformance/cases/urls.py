"""Acceptance 7.2: paths and methods."""

import re
from typing import Final

from aibrix_extproc.conformance import samples
from aibrix_extproc.conformance.bench import Bench
from aibrix_extproc.conformance.case import Case, Need
from aibrix_extproc.conformance.expect import check, expect_completion, expect_error, expect_json, expect_status

PREFLIGHTED: Final = (
    "/v1/chat/completions", "/v1/models", "/v1/embeddings", "/v1/responses", "/v1/audio/transcriptions",
)  # fmt: skip
SDK_HEADERS: Final = (
    "authorization", "content-type", "openai-organization", "x-stainless-arch", "x-stainless-lang",
    "x-stainless-retry-count",
)  # fmt: skip
TRAVERSALS: Final = (
    "/v1/models/..%2f..%2fmetrics", "/v1/models/../../metrics", "/v1/models/%2e%2e/%2e%2e/metrics", "/v1/../metrics",
)  # fmt: skip


def _invalid_url(method: str, path: str) -> str:
    return rf"Invalid URL \({method} \S*{re.escape(path)}\)"


def _unknown(bench: Bench) -> None:
    answer = bench.post("/v1/nope", bench.chat_body())
    expect_error(answer, 404, code=None, contains=_invalid_url("POST", "/v1/nope"))


def _without_v1(bench: Bench) -> None:
    answer = bench.post("/chat/completions", bench.chat_body())
    if answer.status == 200:  # an alias is allowed
        expect_completion(answer)
    else:
        expect_error(answer, 404, code="unknown_url")


def _v1_twice(bench: Bench) -> None:
    answer = bench.post("/v1/v1/chat/completions", bench.chat_body())
    if answer.status == 200:  # so is putting it right
        expect_completion(answer)
    else:
        expect_error(answer, 404, code=None, contains="Invalid URL")


def _served_at(path: str, bench: Bench) -> None:
    expect_completion(bench.post(path, bench.chat_body()))


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
    expect_error(answer, 405, contains="Not allowed to DELETE")
    check("GET" in answer.header("allow"), "an Allow header with GET", answer.header("allow"))


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
        answer = expect_status(bench.send("OPTIONS", path, headers=asked, key=False), 204)
        origin = answer.header("access-control-allow-origin")
        check(origin in ("*", samples.ORIGIN), "the origin allowed", repr(origin))
        allowed = {name.strip().lower() for name in answer.header("access-control-allow-headers").split(",")}
        missing = [name for name in SDK_HEADERS if name not in allowed]
        check("*" in allowed or not missing, "the SDK's headers allowed", f"without {missing}")


def _cross_origin(bench: Bench) -> None:
    answer = expect_status(bench.send("GET", "/v1/models", headers={"origin": samples.ORIGIN}), 200)
    origin = answer.header("access-control-allow-origin")
    check(origin in ("*", samples.ORIGIN), "the origin allowed", repr(origin))
    exposed = answer.header("access-control-expose-headers")
    check("x-request-id" in exposed.lower(), "x-request-id exposed", repr(exposed))


def _not_served(bench: Bench) -> None:
    for path in ("/v1/images/generations", "/v1/assistants", "/v1/fine_tuning/jobs"):
        expect_error(bench.post(path, {"model": "x"}), 404, code=None, contains=_invalid_url("POST", path))


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
        expect_error(answer, 404, contains=_invalid_url("POST", path))


CASES: Final = (
    # id, title, expected, check, needs
    Case("URL-01", "unknown URL", "404 Invalid URL (POST /v1/nope)", _unknown, (Need.CHAT,)),
    Case("URL-02", "path without /v1", "404 unknown_url, or served", _without_v1, (Need.CHAT,)),
    Case("URL-03", "/v1 twice", "404 Invalid URL, or served", _v1_twice, (Need.CHAT,)),
    Case("URL-04", "trailing slash", "200 without a redirect", _slash, (Need.CHAT,)),
    Case("URL-05", "double slash", "200", _double_slash, (Need.CHAT,)),
    Case("URL-06", "query string", "200", _query, (Need.CHAT,)),
    Case("URL-07", "GET on /v1/chat/completions", "405 with Allow, or 404, in shape", _get_chat),
    Case("URL-08", "DELETE on /v1/models", "405 with Allow", _delete_models),
    Case("URL-09", "HEAD", "200, 404 or 405 without a body", _head),
    Case("URL-10", "preflight of a browser, no key", "204 that allows the SDK's headers", _preflight),
    Case("URL-11", "GET from a browser's page", "origin allowed, x-request-id exposed", _cross_origin),
    Case("URL-12", "operations that are not served", "404 Invalid URL", _not_served),
    Case("URL-13", "path traversal", "404, never another path", _traversal),
    Case("URL-14", "POST /v1/responses/input_tokens", "200 with a count, or 404 Invalid URL", _input_tokens,
         (Need.CHAT,)),
)  # fmt: skip
