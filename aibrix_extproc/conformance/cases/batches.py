"""Acceptance 7.10: batches. Each case removes the files that it has made; batches have no removal in the API."""

import itertools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from aibrix_extproc.conformance import sdk
from aibrix_extproc.conformance.bench import Bench
from aibrix_extproc.conformance.case import Case, Inapplicable, Mismatch, Need
from aibrix_extproc.conformance.cases import batch_files
from aibrix_extproc.conformance.expect import check, expect_error, expect_json
from aibrix_extproc.conformance.shelf import Shelf, line, shelf

PATH: Final = "/v1/batches"
UNKNOWN: Final = "batch_conformanceunknown000"
STAMPS: Final = ("created_at", "in_progress_at", "finalizing_at", "completed_at")
MANY: Final = 300  # lines of a batch that is to be caught while it runs
LISTED: Final = 200
REFUSED_BY_ENGINES: Final[Mapping[str, object]] = MappingProxyType({"max_tokens": -5})


def _lines(bench: Bench, *names: str, **fields: Any) -> list[str]:
    return [line(name, bench.chat_body(fields)) for name in names]


def _finished(made: Shelf, lines: list[str], status: str = "completed", **fields: Any) -> Any:
    done = made.ended(made.batch(lines, **fields))
    check(done.status == status, f"status {status}", f"{done.status}: {done.to_json()}")
    return done


def _counts(done: Any, total: int, completed: int, failed: int) -> None:
    expected = {"total": total, "completed": completed, "failed": failed}
    came = done.request_counts.to_dict() if done.request_counts else None
    check(came == expected, f"request_counts {expected}", came)


def _completes(bench: Bench) -> None:
    with shelf(bench) as made:
        done = _finished(made, _lines(bench, "one", "two", "three"), metadata={"made_by": "conformance"})
        _counts(done, 3, 3, 0)
        times = [getattr(done, name) for name in STAMPS]
        check(None not in times and times == sorted(times), f"{', '.join(STAMPS)} in this order", times)
        check(done.metadata == {"made_by": "conformance"}, "the metadata", done.metadata)
        check(done.expires_at == done.created_at + 86_400, "expires_at a day after created_at", done.expires_at)
        check(done.error_file_id is None, "no error file", done.error_file_id)
        ids = sorted(row.get("custom_id", "") for row in made.rows(done.output_file_id))
        check(ids == ["one", "three", "two"], "an output line for each custom_id", ids)


def _schema(bench: Bench) -> None:
    with shelf(bench) as made:
        done = _finished(made, _lines(bench, "one"))
        (row,) = made.rows(done.output_file_id)
        check(str(row.get("id", "")).startswith("batch_req_"), "an id that begins with batch_req_", row)
        check("error" in row and row["error"] is None, "error null", row)
        response = row.get("response") or {}
        check(response.get("status_code") == 200 and response.get("request_id"), "status_code 200, request_id", row)
        check(response.get("body", {}).get("object") == "chat.completion", "a chat completion as body", row)
        file = made.client.files.retrieve(done.output_file_id)
        check(file.purpose == "batch_output", "an output file of purpose batch_output", file.purpose)


def _all_fail(bench: Bench) -> None:
    with shelf(bench) as made:
        done = _finished(made, _lines(bench, "one", "two", **REFUSED_BY_ENGINES))
        _counts(done, 2, 0, 2)
        check(done.output_file_id is None, "no output file", done.output_file_id)
        rows = made.rows(done.error_file_id)
        codes = {(row.get("response") or {}).get("status_code") for row in rows}
        check(len(rows) == 2 and codes == {400}, "two lines with status_code 400 in the error file", rows)
        body = rows[0]["response"].get("body") or {}
        check("message" in (body.get("error") or {}), "OpenAI's error as body", rows[0])


def _mixed(bench: Bench) -> None:
    with shelf(bench) as made:
        lines = _lines(bench, "good-1", "good-2") + _lines(bench, "bad-1", **REFUSED_BY_ENGINES)
        done = _finished(made, lines)
        _counts(done, 3, 2, 1)
        files = (done.output_file_id, done.error_file_id)
        ids = [[row.get("custom_id", "") for row in made.rows(file_id)] for file_id in files]
        check([sorted(one) for one in ids] == [["good-1", "good-2"], ["bad-1"]],
              "good lines in the output file, bad ones in the error file, each once", ids)  # fmt: skip


def _sync(given: Mapping[str, object], param: str | None) -> Callable[[Bench], None]:
    def ask(bench: Bench) -> None:
        with shelf(bench) as made:
            file = made.file(_lines(bench, "one")[0].encode())
            _, answer = sdk.refused(lambda: made.batch(b"", input_file_id=file.id, **given), "BadRequestError")
            expect_error(answer, 400, **({} if param is None else {"param": param}))

    return ask


def _each(*asks: Callable[[Bench], None]) -> Callable[[Bench], None]:
    def ask(bench: Bench) -> None:
        for one in asks:
            one(bench)

    return ask


_WINDOWS: Final = tuple(_sync({"completion_window": window}, "completion_window") for window in ("1h", ""))
_METADATA: Final = (
    _sync({"metadata": {"k": ["v"]}}, "metadata.k"),
    _sync({"metadata": {str(number): "v" for number in range(17)}}, None),
    _sync({"metadata": {"k": "v" * 513}}, None),
)


def _cancel(bench: Bench) -> None:
    names = [f"line-{number}" for number in range(MANY)]
    with shelf(bench) as made:
        batch = made.until("in_progress", made.batch(_lines(bench, *names, max_tokens=64)))
        if _cancelled(bench, batch.id) == 409:
            raise Inapplicable(f"{MANY} lines were done before they could be cancelled")
        done = made.ended(made.client.batches.retrieve(batch.id))
        check(done.status == "cancelled", "status cancelled", done.status)
        check(done.cancelling_at and done.cancelled_at, "cancelling_at and cancelled_at", done)
        files = (done.output_file_id, done.error_file_id)
        ids = [row.get("custom_id") for file_id in files for row in made.rows(file_id)]
        check(len(ids) == len(set(ids)) and set(ids) <= set(names), "each line at most once", ids)
        again = made.client.batches.cancel(batch.id)
        check(again.status == "cancelled", "status cancelled when it is cancelled again", again.status)


def _cancelled(bench: Bench, batch_id: str) -> int:
    """Cancel as openai-node does, without a body and its type; the status."""
    answer = bench.send("POST", f"{PATH}/{batch_id}/cancel")
    if answer.status != 409:
        status = expect_json(answer).get("status")
        check(status in ("cancelling", "cancelled"), "status cancelling", answer)
    return answer.status


def _cancel_ended(bench: Bench) -> None:
    with shelf(bench) as made:
        done = _finished(made, _lines(bench, "one"))
        client, calls = bench.counted_client(max_retries=2)
        _, answer = sdk.refused(lambda: client.batches.cancel(done.id), "ConflictError")
        expect_error(answer, 409)
        check(answer.header("x-should-retry") == "false", "x-should-retry: false", answer.header("x-should-retry"))
        check(len(calls) == 1, "one request, because a retry would not help", f"{len(calls)} requests")


def _unknown(bench: Bench) -> None:
    batches = bench.client().batches
    for call in (batches.retrieve, batches.cancel):
        _, answer = sdk.refused(lambda call=call: call(UNKNOWN), "NotFoundError")  # type: ignore[misc]
        expect_error(answer, 404)


def _list(bench: Bench) -> None:
    with shelf(bench) as made:
        file = made.file(_lines(bench, "one")[0].encode())
        wanted = {made.batch(b"", input_file_id=file.id).id for _ in range(3)}
        page = made.client.batches.list(limit=2)
        check(len(page.data) == 2 and page.has_more, "two batches and has_more", page.to_dict())
        listed = list(itertools.islice(page, LISTED))
        ids, times = [one.id for one in listed], [one.created_at for one in listed]
        check(wanted <= set(ids) and len(ids) == len(set(ids)), f"each batch once, also {sorted(wanted)}", ids)
        check(times == sorted(times, reverse=True), "the newest first", times)
        for batch_id in wanted:
            made.ended(made.client.batches.retrieve(batch_id))


def _endpoints(bench: Bench) -> None:
    has = bench.deployment.models
    bodies: dict[str, dict[str, object]] = {
        "/v1/completions": {"model": has[Need.CHAT], "prompt": "Say hello.", "max_tokens": 4}
    }
    if Need.RESPONSES in has:
        bodies["/v1/responses"] = {"model": has[Need.RESPONSES], "input": "Say hello.", "max_output_tokens": 16}
    if Need.EMBEDDING in has:
        bodies["/v1/embeddings"] = {"model": has[Need.EMBEDDING], "input": "hello"}
    with shelf(bench) as made:
        begun = [made.batch([line("one", body, url)], endpoint=url) for url, body in bodies.items()]
        for batch in begun:
            done = made.ended(batch)
            check(done.status == "completed" and done.output_file_id, f"an answer from {batch.endpoint}", done)


def _output_life(bench: Bench) -> None:
    with shelf(bench) as made:
        life = {"anchor": "created_at", "seconds": 3600}
        done = _finished(made, _lines(bench, "one"), output_expires_after=life)
        file = made.client.files.retrieve(done.output_file_id)
        check(file.expires_at == file.created_at + 3600, "expires_at 3600 s after created_at of the file", file)


def _usage(bench: Bench) -> None:
    with shelf(bench) as made:
        done = _finished(made, _lines(bench, "one", "two"))
        usages = [row["response"]["body"]["usage"] for row in made.rows(done.output_file_id)]
        pairs = (("input_tokens", "prompt_tokens"), ("output_tokens", "completion_tokens"))
        expected = {name: sum(one[of] for one in usages) for name, of in pairs}
        usage = done.usage.to_dict() if done.usage else {}
        if not done.usage:
            raise Mismatch(f"usage {expected}", "none")
        check({name: usage.get(name) for name in expected} == expected, f"usage {expected}", usage)
        check(usage.get("total_tokens") == sum(expected.values()), "total_tokens, the sum of both", usage)


def _without_input(bench: Bench) -> None:
    with shelf(bench) as made:
        batch = made.batch(_lines(bench, *(str(number) for number in range(50))))
        made.client.files.delete(batch.input_file_id)
        done = made.ended(batch)
        check(done.status == "completed", "a batch that completes", done)


_RUNS: Final = (Need.FILES, Need.BATCHES, Need.CHAT)
_TIMES: Final = 20  # a service may take minutes for the smallest batch
CASES: Final = tuple(sorted((
    # id, title, expected, check, needs
    Case("BAT-01", "three lines", "completed, counts, times in order, each custom_id", _completes, _RUNS,
         time_factor=_TIMES),
    Case("BAT-02", "line of the output", "batch_req_ id, 200, request_id, chat completion", _schema, _RUNS,
         time_factor=_TIMES),
    Case("BAT-03", "lines that all fail with 400", "completed, error file only", _all_fail, _RUNS, time_factor=_TIMES),
    Case("BAT-04", "good and bad lines", "both files, each custom_id once", _mixed, _RUNS, time_factor=_TIMES),
    Case("BAT-06", "unknown endpoint", "400 param endpoint", _sync({"endpoint": "/v1/x"}, "endpoint"), _RUNS),
    Case("BAT-07", "completion_window 1h and empty", "400 param completion_window", _each(*_WINDOWS), _RUNS),
    Case("BAT-08", "metadata with a list, 17 keys, a long value", "400", _each(*_METADATA), _RUNS),
    Case("BAT-17", "cancel a batch that runs", "cancelling, then cancelled; each line at most once", _cancel, _RUNS,
         time_factor=_TIMES),
    Case("BAT-18", "cancel a completed batch", "ConflictError, x-should-retry false, one request", _cancel_ended,
         _RUNS, time_factor=_TIMES),
    Case("BAT-20", "unknown batch", "404", _unknown, (Need.BATCHES,)),
    Case("BAT-21", "list in pages of two", "each batch once, newest first", _list, _RUNS, time_factor=_TIMES),
    Case("BAT-23", "completions, responses and embeddings", "completed", _endpoints, _RUNS, time_factor=_TIMES),
    Case("BAT-24", "output_expires_after", "expires_at of the output file", _output_life, _RUNS, time_factor=_TIMES),
    Case("BAT-27", "usage", "the sum of the lines", _usage, _RUNS, time_factor=_TIMES),
    Case("BAT-28", "delete the input of a batch that runs", "completed", _without_input, _RUNS, time_factor=_TIMES),
    *batch_files.CASES,
), key=lambda case: case.id))  # fmt: skip
