"""Acceptance 7.6: transcription."""

from typing import Final

from aibrix_extproc.conformance import samples, sdk
from aibrix_extproc.conformance.bench import Bench
from aibrix_extproc.conformance.case import Case, Need
from aibrix_extproc.conformance.expect import check, expect_error, expect_json, expect_status
from aibrix_extproc.conformance.wire import Answer

PATH: Final = "/v1/audio/transcriptions"
MEGABYTE: Final = 1_000_000
BOUNDARIES: Final = ("with space", "a=b:c?d/e,f(g)'h+i_j-k.l")
FILE_NAMES: Final = ("a%0D%0A.wav", "a\\r\\n.wav", "name=model.wav", "日本.wav")


def _send(bench: Bench, *parts: tuple[str, bytes]) -> Answer:
    return bench.send("POST", PATH, samples.form(*parts), samples.form_type())


def _model(bench: Bench) -> tuple[str, bytes]:
    return samples.model_part(bench.model(Need.TRANSCRIPTION))


def _through_sdk(bench: Bench) -> None:
    made = bench.client().audio.transcriptions.create(
        model=bench.model(Need.TRANSCRIPTION), file=("a.wav", samples.wav())
    )
    check(isinstance(made.text, str), "text", made)
    first = expect_json(_send(bench, samples.file_part(), _model(bench)))  # as openai-node orders them
    check("text" in first, "text, with the file before the model", first)


def _sizes(bench: Bench) -> None:
    padded = samples.wav() + b"\0" * (24 * MEGABYTE)
    expect_status(_send(bench, samples.file_part(padded), _model(bench)), 200)
    large = samples.wav() + b"\0" * (26 * MEGABYTE + 300_000)
    expect_error(_send(bench, samples.file_part(large), _model(bench)), 413, contains="Maximum content size limit")


def _stream(bench: Bench) -> None:
    events = list(
        bench.client().audio.transcriptions.create(
            model=bench.model(Need.TRANSCRIPTION), file=("a.wav", samples.wav()), stream=True
        )
    )
    kinds = [getattr(event, "type", None) for event in events]
    expected = "transcript.text.delta events and transcript.text.done at the end"
    check(kinds and set(kinds) <= {"transcript.text.delta", "transcript.text.done"}, expected, kinds or "no events")
    check(kinds.count("transcript.text.done") == 1 and kinds[-1] == "transcript.text.done", expected, kinds)


def _text(bench: Bench) -> None:
    model, file = bench.model(Need.TRANSCRIPTION), ("a.wav", samples.wav())
    made: list[object] = []

    def create() -> None:
        made.append(bench.client().audio.transcriptions.create(model=model, file=file, response_format="text"))

    if answer := sdk.status_error(create):
        expect_error(answer, 400, param="response_format")
    else:
        check(isinstance(made[0], str) and not made[0].startswith("{"), "plain text", repr(made[0]))
        parts = (_model(bench), samples.file_part(), ('name="response_format"', b"text"))
        answer = expect_status(_send(bench, *parts), 200)
        check(answer.header("content-type").startswith("text/plain"), "content-type text/plain", answer)


def _missing(bench: Bench) -> None:
    expect_error(_send(bench, samples.file_part()), 400, contains="you must provide a model parameter")
    expect_error(_send(bench, _model(bench)), 400, param="file")


def _forms(bench: Bench) -> None:
    body = samples.form(samples.file_part(), _model(bench))
    for size in (1, 997):
        pieces = (body[at : at + size] for at in range(0, len(body), size))
        expect_status(bench.send("POST", PATH, pieces, samples.form_type()), 200)
    for boundary in BOUNDARIES:
        quoted = {"content-type": f'multipart/form-data; boundary="{boundary}"'}
        odd = samples.form(samples.file_part(), _model(bench), boundary=boundary)
        expect_status(bench.send("POST", PATH, odd, quoted), 200)
    for name in FILE_NAMES:
        answer = _send(bench, samples.file_part(name=name), _model(bench))
        if answer.status != 200:
            expect_error(answer, 400)
    for kind in ("multipart/form-data", "multipart/form-data; boundary=other"):
        expect_error(bench.send("POST", PATH, body, {"content-type": kind}), 400)


_MODEL: Final = (Need.TRANSCRIPTION,)
CASES: Final = (
    # id, title, expected, check, needs
    Case("AUD-01", "transcription; file before the model", "text", _through_sdk, _MODEL),
    Case("AUD-02", "24 MB and 26 MB", "200; 413 Maximum content size limit", _sizes, _MODEL, is_large=True,
         time_factor=4),
    Case("AUD-03", "stream", "transcript.text.delta and .done events", _stream, _MODEL),
    Case("AUD-04", "response_format text", "plain text, or 400 param response_format", _text, _MODEL),
    Case("AUD-05", "no model; no file", "400", _missing, _MODEL),
    Case("AUD-06", "forms cut anywhere, odd boundaries and names", "read, or 400", _forms, _MODEL),
)  # fmt: skip
