"""Acceptance 7.5: the Responses API."""

from typing import Any, Final

from aibrix_extproc.conformance import samples, sdk
from aibrix_extproc.conformance.bench import Bench
from aibrix_extproc.conformance.case import Case, Inapplicable, Need
from aibrix_extproc.conformance.expect import NO_404, check, expect_error, expect_json

PATH: Final = "/v1/responses"
IN_ORDER: Final = (
    "created", "in_progress", "output_item.added", "content_part.added", "output_text.delta", "output_text.done",
    "content_part.done", "output_item.done",
)  # fmt: skip
RETRIEVALS: Final = 4  # enough to meet another replica


def _create(bench: Bench, **fields: Any) -> Any:
    return bench.client().responses.create(**{"model": bench.model(), "input": "Say hello.", **fields})


def _whole(bench: Bench) -> None:
    made = _create(bench, max_output_tokens=32)
    check(made.object == "response" and isinstance(made.output_text, str), "a response with text", made)
    check(made.usage and made.usage.input_tokens > 0, "usage.input_tokens", made.usage)


def _streamed(bench: Bench) -> None:
    events = list(_create(bench, stream=True, max_output_tokens=64))
    kinds = [event.type.removeprefix("response.") for event in events]
    first = dict.fromkeys(kinds)
    check([kind for kind in first if kind in IN_ORDER] == list(IN_ORDER), f"events {', '.join(IN_ORDER)}", list(first))
    check(kinds[-1] in ("completed", "incomplete"), "completed at the end", kinds[-1])
    numbers = [event.sequence_number for event in events]
    check(numbers == list(range(len(events))), "sequence_number 0, 1, 2 and so on", numbers)
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    check(events[-1].response.output_text == text, f"final text {text!r}", events[-1].response.output_text)


def _incomplete(bench: Bench) -> None:
    events = list(_create(bench, stream=True, max_output_tokens=2))
    last = events[-1]
    check(last.type in ("response.incomplete", "response.completed"), "an end event", last.type)
    check(last.response.status == "incomplete", "status incomplete", last.response.status)


def _retrieve(bench: Bench) -> None:
    unknown = bench.send("GET", f"{PATH}/resp_conformance_unknown")
    expect_error(unknown, 404)
    expect_error(bench.post(PATH, _body(bench, previous_response_id="resp_conformance_unknown")), 400, 404)
    name = expect_json(bench.post(PATH, _body(bench, max_output_tokens=4)))["id"]
    answers = [bench.send("GET", f"{PATH}/{name}") for _ in range(RETRIEVALS)]
    statuses = {answer.status for answer in answers}
    check(len(statuses) == 1, "the same answer each time that a response is retrieved", statuses)
    if statuses != {200}:
        expect_error(answers[0], 404)


def _background(bench: Bench) -> None:
    answer = bench.post(PATH, _body(bench, background=True, max_output_tokens=4))
    if answer.status == 200:
        check(expect_json(answer).get("object") == "response", "a response or a refusal", answer)
        raise Inapplicable("the deployment stores responses and takes background ones")
    expect_error(answer, 400, param="background")


def _unknown_model(bench: Bench) -> None:
    for stream in (False, True):
        _, answer = sdk.refused(
            lambda stream=stream: _create(bench, model=samples.UNKNOWN_MODEL, stream=stream),  # type: ignore[misc]
            "NotFoundError",
            NO_404,
        )
        expect_error(answer, 404, code="model_not_found")


def _helper(bench: Bench) -> None:
    with bench.client().responses.stream(model=bench.model(), input="Say hello.", max_output_tokens=32) as stream:
        events = list(stream)
        # The helper knows no final response of an answer that was cut by max_output_tokens.
        cut = events and events[-1].type == "response.incomplete"
        final = events[-1].response if cut else stream.get_final_response()
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    check(final.status in ("completed", "incomplete"), "status completed or incomplete", final.status)
    check(final.output_text == text, f"final text {text!r}", final.output_text)


def _body(bench: Bench, **fields: Any) -> dict[str, Any]:
    return {"model": bench.model(), "input": "Say hello.", **fields}


_SERVED: Final = (Need.CHAT, Need.RESPONSES)
CASES: Final = (
    # id, title, expected, check, needs
    Case("RESP-01", "create", "response with text and usage", _whole, _SERVED),
    Case("RESP-02", "stream", "all events in order, numbered", _streamed, _SERVED),
    Case("RESP-03", "out of tokens in a stream", "status incomplete at the end", _incomplete, _SERVED),
    Case("RESP-04", "retrieve, previous_response_id", "found each time, or 404 each time",
         _retrieve, _SERVED),
    Case("RESP-05", "background without a store", "400 param background", _background, _SERVED),
    Case("RESP-07", "unknown model, whole and streamed", "NotFoundError model_not_found", _unknown_model, _SERVED),
    Case("RESP-08", "the SDK's stream helper", "final response", _helper, _SERVED),
)  # fmt: skip
