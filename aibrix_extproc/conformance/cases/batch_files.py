"""Acceptance 7.10: what is wrong with the input of a batch fails the batch, and its errors say where."""

import json
from collections.abc import Callable
from typing import Any, Final

from aibrix_extproc.conformance import samples
from aibrix_extproc.conformance.bench import Bench
from aibrix_extproc.conformance.case import Case, Inapplicable, Need
from aibrix_extproc.conformance.expect import check
from aibrix_extproc.conformance.shelf import CHAT_URL, Shelf, line, shelf

Told = tuple[str | None, int | None, str | None]  # code, line and param of an error; None is not compared
FIELDS: Final = ("custom_id", "method", "url", "body")
TOO_MANY: Final = 50_001


def _line(bench: Bench, name: str = "one", **fields: Any) -> str:
    return line(name, bench.chat_body(fields))


def _failed(made: Shelf, content: str | bytes, *expected: Told, **fields: Any) -> None:
    """A batch over this content fails, with these errors and no others."""
    lines = content.encode() if isinstance(content, str) else content
    done = made.ended(made.batch(lines, **fields))
    check(done.status == "failed", "status failed", done.status)
    check(done.output_file_id is None and done.error_file_id is None, "no result files", done)
    came = [(one.code, one.line, one.param) for one in (done.errors.data if done.errors else None) or []]
    fits = len(came) == len(expected) and all(map(_fits, expected, came))
    check(fits, f"errors (code, line, param) {list(expected)}", came)


def _fits(wanted: Told, came: Told) -> bool:
    return all(one in (None, other) for one, other in zip(wanted, came, strict=True))


def _content(build: Callable[[Bench], str | bytes], *expected: Told) -> Callable[[Bench], None]:
    def ask(bench: Bench) -> None:
        with shelf(bench) as made:
            _failed(made, build(bench), *expected)

    return ask


def _unknown_file(bench: Bench) -> None:
    with shelf(bench) as made:
        _failed(made, b"", ("invalid_request", None, "file_id"), input_file_id="file-conformanceunknown000")


def _without_fields(bench: Bench) -> str:
    whole = json.loads(_line(bench))
    # Ids differ, or the lines would be duplicates of each other as well.
    return "\n".join(
        json.dumps({key: f"id-{name}" if key == "custom_id" else value for key, value in whole.items() if key != name})
        for name in FIELDS
    )


def _two_models(bench: Bench) -> None:
    unknown = _line(bench, "two", model=samples.UNKNOWN_MODEL)
    with shelf(bench) as made:
        _failed(made, unknown, ("model_not_found", 1, "body.model"))
    if Need.SECOND not in bench.deployment.models:
        raise Inapplicable("an unknown model is refused; there is no second one to mix with")
    both = f"{_line(bench)}\n{_line(bench, 'two', model=bench.model(Need.SECOND))}"
    with shelf(bench) as made:
        _failed(made, both, ("mismatched_model", None, "body.model"))


def _odd_bytes(bench: Bench) -> None:
    content = f"\ufeff{_line(bench)}\r\n\r\n \n{_line(bench, 'two')}".encode()
    with shelf(bench) as made:
        _failed(made, b"\n \r\n", ("empty_file", None, None))
        done = made.ended(made.batch(content))
        check(done.status == "completed", "a batch that completes", done)
        check(done.request_counts.total == 2, "two requests", done.request_counts)


def _too_many(bench: Bench) -> str:
    body = {"model": bench.model(), "messages": [{"role": "user", "content": "x"}]}
    return "\n".join(line(str(number), body) for number in range(TOO_MANY))


def _twice(bench: Bench) -> str:
    return "\n".join((_line(bench), _line(bench, "two"), _line(bench)))


_ONE: Final = ("streaming_unsupported", 1, "body.stream")
_RUNS: Final = (Need.FILES, Need.BATCHES, Need.CHAT)
_TIMES: Final = 20
_MISSING: Final = tuple(("missing_required_parameter", number, name) for number, name in enumerate(FIELDS, 1))
CASES: Final = (
    # id, title, expected, check, needs
    Case("BAT-05", "unknown input file", "failed, invalid_request of file_id", _unknown_file, _RUNS,
         time_factor=_TIMES),
    Case("BAT-09", "line 2 is no JSON", "failed, invalid_json_line 2",
         _content(lambda bench: f"{_line(bench)}\n{{bad", ("invalid_json_line", 2, None)), _RUNS, time_factor=_TIMES),
    Case("BAT-10", "four lines, each without one field", "failed, four errors with line and param",
         _content(_without_fields, *_MISSING), _RUNS, time_factor=_TIMES),
    Case("BAT-11", "custom_id twice", "failed, duplicate_custom_id",
         _content(_twice, ("duplicate_custom_id", 3, "custom_id")), _RUNS, time_factor=_TIMES),
    Case("BAT-12", "url of another endpoint", "failed, invalid_url",
         _content(lambda bench: _line(bench).replace(CHAT_URL, "/v1/embeddings"), ("invalid_url", 1, "url")), _RUNS,
         time_factor=_TIMES),
    Case("BAT-13", "line with stream true", "failed, streaming_unsupported of body.stream",
         _content(lambda bench: _line(bench, stream=True), _ONE), _RUNS, time_factor=_TIMES),
    Case("BAT-14", "unknown model; two models", "failed, model_not_found; mismatched_model", _two_models, _RUNS,
         time_factor=_TIMES),
    Case("BAT-15", "50,001 lines", "failed, too_many_tasks", _content(_too_many, ("too_many_tasks", None, None)),
         _RUNS, is_large=True, time_factor=_TIMES),
    Case("BAT-16", "no lines; blank lines, byte order mark, CRLF", "empty_file; completed", _odd_bytes, _RUNS,
         time_factor=_TIMES),
)  # fmt: skip
