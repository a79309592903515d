"""docs/api.md: what holds for all operations, and the way to the page of each."""

import json
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final

from aibrix_extproc.cli.reference_docs import DOCS
from aibrix_extproc.cli.reference_markdown import code, page, table
from aibrix_extproc.cli.reference_operation import EVERYWHERE
from aibrix_extproc.cli.reference_pages import place_of
from aibrix_extproc.cli.reference_tables import error_row
from aibrix_extproc.core.access.keys import MAX_KEY_LENGTH
from aibrix_extproc.core.openai.contract.controls import CONTROLS, Place
from aibrix_extproc.core.openai.contract.errors import ERRORS, Problem, shape
from aibrix_extproc.core.openai.contract.operation_errors import CAUSES, SDK_EXCEPTIONS, errors_with
from aibrix_extproc.core.openai.contract.operation_rows import OPERATIONS
from aibrix_extproc.core.openai.contract.operations import Action, Operation, Role
from aibrix_extproc.core.openai.contract.paths import MAX_MODEL_ID_BYTES
from aibrix_extproc.core.openai.reference.header_docs import (
    ALLOWED_HEADERS,
    ALLOWED_METHODS,
    EXPOSED_HEADERS,
    REQUEST_HEADERS,
    RESPONSE_HEADERS,
    STOPPED_RESPONSE_HEADERS,
    treatment,
)
from aibrix_extproc.core.routing.owners import KEEP_MOVED_SECONDS, MAX_MOVED
from aibrix_extproc.core.routing.response_ids import KEEP_SECONDS, MAX_LENGTH
from aibrix_extproc.interfaces.catalogue import catalogue
from aibrix_extproc.interfaces.verdicts import MEASURED
from aibrix_extproc.settings import Settings

_HEAD: Final = """
Everything that a client can ask for, what it gets, and what can go wrong. The interface is OpenAI's: take any OpenAI
SDK, give it the base URL `http(s)://HOST[:PORT]/v1` and a key, and write programs as if for api.openai.com. What is
different is said with each operation. The same as a machine reads it: [openapi.json](openapi.json) (OpenAPI 3.1).
"""

_REQUESTS: Final = """
A request is matched by method and path; before that, slashes that repeat are merged, one at the end is dropped, and the
query string is put aside. Nothing is resolved or decoded, but for the model id in `/v1/models/{model}`, which may hold
slashes, raw or as `%2F`. What no row names is a 404, a row with another method a 405 with `Allow`.

Bodies are JSON objects in UTF-8 or, for audio, forms; they come with or without `content-length`, in chunks, over
HTTP/1.0, HTTP/1.1 or HTTP/2, and not compressed. If a JSON object names a member twice, the last one counts. Members
that this page does not list are forwarded as they are: the lists name what matters for the gateway.

The model decides which engines can be asked. It is looked for exactly as written: no case is folded, no space cut.

Whether an answer is streamed is decided by `stream` in the request, never by `accept`. How streams behave, from the
first event to the last or to the error in between: [streaming.md](streaming.md).

Where a page has a line of Python without a program around it, `client` is
`openai.OpenAI(base_url="https://HOST/v1", api_key="KEY")` and `anthropic` is
`anthropic.Anthropic(base_url="https://HOST", api_key="KEY")`.
"""

_OPERATIONS: Final = """
Each operation has a page with programs in Python and Node, the same in plain HTTP, recorded answers and streams, every
field of the request and the answer with what a real vLLM did with it, and its errors. Operations for operators are on
[one page](api/operators.md).

The programs work as they stand, with files of your own (`picture.png`, `speech.wav`, `lines.jsonl`), against a stack on
your machine, whose simulated engines answer with random words. They need an SDK: `pip install openai anthropic`, or
`npm install openai @anthropic-ai/sdk` for those in Node, which are modules (`.mjs`).

```sh
make run ARGS="SAMPLE_ARGUMENTS"
```
"""

# What the samples of the pages need: models for every operation, in one stack.
SAMPLE_ARGUMENTS: Final = (
    "--model chat --model vectors=embed --model ranks=rerank --model pairs=score --model classes=classify --model"
    " speech=audio --simulate='--vllm-version 0.33.0 --multimodal --enable-auto-tool-choice --enable-responses-store"
    " --embedding-dimensions 4'"
)

_AUTHENTICATION: Final = """
`Authorization: Bearer KEY`, as every OpenAI SDK sends it, `x-api-key: KEY`, as Anthropic's does, or `api-key: KEY`, as
Azure's clients do. Each works for every operation; the first that is there counts. A gateway without keys lets everyone
in. The key is checked before anything else, so that nothing is learnt without one, and a large body is not read for it.
It never reaches an engine: an engine that wants a key gets the one that the gateway holds for it. Neither does any
other header, or parameter of the query, whose name says that it is a credential (`cookie`, `x-auth-token`,
`?api-key=...`). Azure's paths (`/openai/deployments/...`) are not served: give its clients this base URL.
`openai.AzureOpenAI(base_url="https://HOST/v1", api_key="KEY", api_version="any")` works; the `/deployments/MODEL` that
it puts into paths is ignored, since its bodies name the model as well.

A key may be limited to some models and operations. A model that a key does not allow does not exist for it: 404, and
not listed. An operation that it does not allow is a 403 `permission_denied`. Keys, permissions, expiry and rotation:
[keys.md](keys.md). `OPTIONS` needs no key.
"""

_CONTROLS: Final = """
What steers the engine instead of the answer is for callers with `engine_controls`
([keys.md](keys.md#what-a-caller-may-do)): a header, a top-level member of a JSON body, or a field of a form. From
others a `removed` one has no effect, and a `refused` one is a 400 `engine_control` (always a 400 in a form):
"""
_CORS: Final = """
Browsers may call the API: a preflight (`OPTIONS` of any path) is answered with 204, without a key and without asking
an engine, and every answer to a request with `origin` allows that origin.
"""

_ERRORS: Final = """
Whatever fails, the client gets OpenAI's error: all four members always there, `code` text or null and never a number,
with `content-type: application/json` and `x-request-id`. That holds for engines' errors in whatever shape they come,
for Envoy's own and for the gateway's. A stream that fails before its first byte gets the same, with the status, and no
event stream.
"""

_ERROR_TABLE: Final = """
Words in braces are filled in; messages that are one word in braces repeat what the engine said, without its insides
(paths, versions, names of its classes). Where the engine names a field, `param` names it too. `key` is this gateway's
name for the row; metrics and logs use it, clients never see it.
"""

_ENVOY_ALONE: Final = """
What never became a request Envoy answers alone, in the same shape: what is not valid HTTP (400), headers that never
end or a body that never comes (408), an upgrade to another protocol or an HTTP version that is not served (426).
"""

_VERSIONS: Final = """
The version of the interface is in its paths: `/v1`. What a key may use, with the versions of the engines behind it, is
an answer of the API itself: [GET /v1/interfaces](api/list_interfaces.md).

Each field in a page was derived from the newest SDKs and from vLLM, then sent through the gateway to a real vLLM with
tiny models: a good value, values at its limits, and one of a wrong type. The column `support` says what came of it:

- `yes`: the field changed the answer, or the engine insists on it
- `accepted`: a wrong value is refused, and no effect of a good one can be seen, with the reason
- `ignored`: any value passes, without an effect
- `refused`: a good value is this error

This is the newest vLLM with its Python frontend. An older vLLM, and the newest with its Rust frontend, are named where
they did something else. The Rust frontend does not have all operations: the page of one that it lacks says so.
"""

# What happens to the rows of each section, in the order of the page: those of an action, for everybody or not.
SECTIONS: Final[Mapping[tuple[Action, bool], tuple[str, str]]] = MappingProxyType({
    (Action.ROUTE, True): (
        "Routed by model",
        "Sent to an engine that serves the model named in the request, and that can do the task.",
    ),
    (Action.STICKY, True): (
        "Routed to the owner",
        "Sent to the engine that made the object, because only that one has it.",
    ),
    (Action.LOCAL, True): (
        "Answered here",
        "Answered by the gateway from what it knows of the fleet; no engine is asked.",
    ),
    (Action.LOCAL, False): (
        "The gateway itself",
        "For keys with the role `admin`. For all others an unknown URL: 404.",
    ),
    (Action.METADATA, True): (
        "Answered by the metadata service",
        "A gateway without this service answers 404, as for an unknown URL.",
    ),
    (Action.METADATA, False): (
        "Operators",
        "For keys with the role `admin`, and for those with the role `operator` that list the operation"
        " ([keys.md](keys.md)). For all others each is an unknown URL: 404. [engines.md](engines.md) says what engine"
        " operations do to requests.",
    ),
    (Action.ADMIN, True): (
        "Engines' own administration",
        "Routes of an engine that a user's key must never reach: 404, as for an unknown URL.",
    ),
    (Action.REFUSE, True): (
        "Refused",
        "Known to OpenAI's SDKs or to vLLM, and served by no part of this system: 404, as for an unknown URL.",
    ),
})  # fmt: skip
SERVED: Final = tuple(one for one in SECTIONS if one[0] not in (Action.ADMIN, Action.REFUSE))


def api_page() -> str:
    """The page."""
    sections = {
        "Requests": _REQUESTS,
        "Authentication": _AUTHENTICATION,
        "Limits": _limits(),
        "Operations": _overview(),
        **{SECTIONS[section][0]: _served(section) for section in SERVED},
        "Not served": _not_served(),
        "Errors": _errors(),
        "Causes": _causes(),
        "Headers of requests": _request_headers(),
        "Headers of answers": _response_headers(),
        "CORS": _cors(),
        "Versions": _versions(),
    }
    parts = (f"## {title}\n\n{text.strip()}" for title, text in sections.items())
    return page("API", _HEAD, _contents(sections), *parts)


def _contents(sections: Mapping[str, str]) -> str:
    return "\n".join(f"- [{title}](#{_anchor(title)})" for title in sections)


def _anchor(title: str) -> str:
    return title.lower().replace(",", "").replace(" ", "-")


def _rows(*sections: tuple[Action, bool]) -> Iterator[Operation]:
    return (row for section in sections for row in OPERATIONS if (row.action, row.role is Role.USER) == section)


def _limits() -> str:
    limits = Settings().limits
    rows = (
        ("body of a request", f"{limits.max_body_bytes} bytes", "`limits.max_body_bytes`", "413 `request_too_large`"),
        (
            "form with audio",
            f"{limits.max_audio_bytes} bytes, as with OpenAI",
            "`limits.max_audio_bytes`",
            "413 `audio_too_large`",
        ),
        (
            "wait for the head of an answer",
            f"{limits.max_wait_seconds:g} s, or a second more than `x-stainless-read-timeout` asks for if that is less",
            "`limits.max_wait_seconds`",
            "504 `timeout`",
        ),
        ("length of an answer, in bytes or in time", "none", "", ""),
        ("headers of a request", "60 KiB", "in Envoy's configuration", "431 `headers_too_large`"),
        ("key", f"{MAX_KEY_LENGTH} characters", "", "401 `invalid_api_key`"),
        ("id of a model in a path", f"{MAX_MODEL_ID_BYTES} bytes", "", "404 `model_not_found_retrieve`"),
        (
            "age of a response that can be named; its id has the engine in it",
            f"{KEEP_SECONDS // 86_400} days, while its engine runs; the id has up to {MAX_LENGTH} characters",
            "",
            "404 `not_found`, 400 `previous_response_not_found`",
        ),
        (
            "responses that a retry took to another engine, and that only the process that saw it finds",
            f"{MAX_MOVED} for {KEEP_MOVED_SECONDS:g} s",
            "",
            "404 `not_found`, 400 `previous_response_not_found`",
        ),
    )
    return table(("what", "limit", "setting", "beyond it"), rows)


def _overview() -> str:
    rows = ((f"[{title}](#{_anchor(title)})", meaning) for title, meaning in (SECTIONS[section] for section in SERVED))
    return f"{_OPERATIONS.strip().replace('SAMPLE_ARGUMENTS', SAMPLE_ARGUMENTS)}\n\n" + table(
        ("operations", "who answers"), rows
    )


def _served(section: tuple[Action, bool]) -> str:
    rows = (
        (row.method, code(row.path), code(row.id), row.role.value, f"[{DOCS[row.id].summary}]({place_of(row)})")
        for row in _rows(section)
    )
    return f"{SECTIONS[section][1]}\n\n" + table(("method", "path", "operation", "role", "what it does"), rows)


def _not_served() -> str:
    return "\n\n".join(_unserved(section) for section in SECTIONS if section not in SERVED)


def _unserved(section: tuple[Action, bool]) -> str:
    title, meaning = SECTIONS[section]
    rows = ((row.method, code(row.path), code(row.id), row.note) for row in _rows(section))
    return f"### {title}\n\n{meaning}\n\n{table(('method', 'path', 'operation', 'notes'), rows)}"


def _errors() -> str:
    problem = Problem("model_not_found", {"model": "MODEL"})
    openai, anthropic = (
        json.dumps(json.loads(shape(problem, anthropic=flag, request_id="REQUEST-ID").body), indent=2)
        for flag in (False, True)
    )
    exceptions = ((str(status), code(name), "yes" if again else "no") for status, (name, again) in _sorted_exceptions())
    head = ("key", "status", "type", "code", "param", "message", "when", "retry")
    rows = (error_row(key, row) for key, row in sorted(ERRORS.items(), key=lambda item: (item[1].status, item[0])))
    return "\n\n".join((
        _ERRORS.strip(),
        f"```json\n{openai}\n```",
        "Operations below `/v1/messages` fail in the shape of Anthropic's SDK:",
        f"```json\n{anthropic}\n```",
        _ERROR_TABLE.strip(),
        table(head, rows),
        _ENVOY_ALONE.strip(),
        "SDKs branch on the status, and try some answers again by themselves (twice, unless they are told otherwise):",
        table(("status", "exception of openai-python", "tried again"), exceptions),
    ))  # fmt: skip


def _sorted_exceptions() -> list[tuple[int, tuple[str, bool]]]:
    return sorted(SDK_EXCEPTIONS.items())


def _causes() -> str:
    rows = (
        (
            cause.title,
            cause.meaning,
            ", ".join(map(code, errors_with(name))),
            "every operation" if name in EVERYWHERE else "",
        )
        for name, cause in CAUSES.items()
    )
    return table(("cause", "meaning", "errors", "concerns"), rows)


def _request_headers() -> str:
    rows = ((code(name), treatment(name), meaning) for name, meaning in REQUEST_HEADERS.items())
    return (
        "What a client sends beside these is forwarded as it is, but for `x-envoy-*`, which Envoy removes.\n\n"
        + table(("header", "what happens", "meaning"), rows)
        + f"\n\n{_CONTROLS.strip()}\n\n"
        + table(("name", "in", "otherwise", "why"), _controls())
    )


def _controls() -> Iterator[tuple[str, ...]]:
    for row in CONTROLS:
        passes = f"; {' and '.join(code(bytes(value).decode()) for value in row.harmless)} may pass"
        yield code(row.name), row.place.value, row.otherwise.value + passes * (row.place is Place.BODY), row.reason


def _response_headers() -> str:
    rows = ((code(name), where, meaning) for name, (where, meaning) in RESPONSE_HEADERS.items())
    stopped = ((code(name), why) for name, why in STOPPED_RESPONSE_HEADERS.items())
    return "\n\n".join((
        table(("header", "on", "meaning"), rows),
        "Removed from answers; from errors also `content-encoding`, `location` and `www-authenticate`:",
        table(("header", "why"), stopped),
    ))  # fmt: skip


def _versions() -> str:
    sources = ", ".join(catalogue().sources)
    measured = ", ".join(name.replace("-", " ") for name in MEASURED)
    return f"{_VERSIONS.strip()}\n\n" + table(
        ("what", "versions"), (("fields were derived from", sources), ("fields were measured on", measured))
    )


def _cors() -> str:
    rows = (
        ("methods", ALLOWED_METHODS),
        ("headers that a page may send, if it does not ask for others", ALLOWED_HEADERS),
        ("headers that a page may read", EXPOSED_HEADERS),
    )
    return f"{_CORS.strip()}\n\n" + table(
        ("what is allowed", ""), ((what, ", ".join(map(code, names.split(", ")))) for what, names in rows)
    )
