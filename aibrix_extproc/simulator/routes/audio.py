"""POST /v1/audio/transcriptions and /translations."""

import math
import struct
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from aibrix_extproc.simulator.engine import Job, Ticket
from aibrix_extproc.simulator.errors import ReplyError, bad_request, shape_b
from aibrix_extproc.simulator.models import Model
from aibrix_extproc.simulator.multipart import MultipartError, Part, parse_form
from aibrix_extproc.simulator.ranges import check_ranges
from aibrix_extproc.simulator.reading import check_form, missing_field, validation_error
from aibrix_extproc.simulator.routes.choices import DONE, event
from aibrix_extproc.simulator.sampling import answer_script, check_temperature, make_job, stream_options_error
from aibrix_extproc.simulator.script import Bounds, Script
from aibrix_extproc.simulator.wire import Answer, Call, EventStream, json_reply

_MAX_FILE_BYTES: Final = 25 * 1024 * 1024
_GUESSED_BYTES_PER_SECOND: Final = 16_000
_PROMPT_TOKENS: Final = 4
_FORMATS: Final = ("json", "text", "srt", "verbose_json", "vtt")


@dataclass(frozen=True, slots=True)
class SpeechAnswer:
    """Everything about an answer except for its time."""

    model: Model
    kind: str
    """`transcription` or `translation`."""
    response_id: str
    created: int
    script: Script
    seconds: float
    language: str
    form: str
    job: Job
    stream: bool
    include_usage: bool


async def create_transcription(call: Call) -> Answer:
    """Write down what is said."""
    return await _speech(call, "transcription")


async def create_translation(call: Call) -> Answer:
    """Write down in English what is said."""
    return await _speech(call, "translation")


async def _speech(call: Call, kind: str) -> Answer:
    engine = call.engine
    answer = _plan(call, kind)
    ticket = engine.enter(answer.job)
    if answer.stream:
        return EventStream(_stream(call, answer, ticket), partial(engine.release, ticket))
    await engine.run(ticket)
    text = answer.script.text.strip()
    usage = {"type": "duration", "seconds": math.ceil(answer.seconds)}
    if answer.form != "verbose_json":
        return json_reply({"text": text, "usage": usage})
    segment = {
        "id": 0,
        "seek": 0,
        "start": 0.0,
        "end": answer.seconds,
        "text": text,
        "tokens": [],
        "temperature": 0.0,
        "avg_logprob": -0.1,
        "compression_ratio": 1.0,
        "no_speech_prob": 0.0,
    }
    return json_reply(
        {
            "duration": str(answer.seconds),
            "language": answer.language,
            "text": text,
            "segments": [segment],
            "words": None,
        }
    )


def _plan(call: Call, kind: str) -> SpeechAnswer:
    fields = _read_form(call)
    file = fields.get("file")
    if file is None or file.filename is None:
        raise missing_field("file")
    values = {name: part.text for name, part in fields.items() if part.filename is None}
    form = values.get("response_format", "json")
    if form not in _FORMATS:
        error = {"type": "literal_error", "loc": ("body", "response_format"), "input": form,
                 "msg": "Input should be 'json', 'text', 'srt', 'verbose_json' or 'vtt'"}  # fmt: skip
        raise validation_error([error])
    numbers = check_form(values, kind)
    stream, include_usage = _truth(values, "stream"), _truth(values, "stream_include_usage")
    if include_usage and not stream:
        raise stream_options_error()
    model = call.engine.models.resolve(values.get("model"))
    check_temperature(numbers.get("temperature"), numbers.get("top_p"), numbers.get("max_completion_tokens"))
    check_ranges(numbers)
    if form in ("srt", "vtt"):
        raise bad_request(f"Currently do not support {form} response format", "response_format")
    if stream and form == "verbose_json":
        raise bad_request("verbose_json format doesn't support streaming case", "response_format")
    if len(file.content) > _MAX_FILE_BYTES:
        size = len(file.content) / 1024**2
        raise bad_request(
            f"Maximum file size exceeded (parameter=audio_filesize_mb, value={size})", "audio_filesize_mb"
        )
    if not file.content:
        raise bad_request("Invalid or unsupported audio file.")
    seconds = audio_seconds(file.content)
    # People say two to three words in a second.
    bounds = Bounds(max(1, math.ceil(seconds * 2.5)))
    script = answer_script(call, file.content, bounds, ignore_eos=call.pace.tokens is None)
    script = Script(script.pieces, "stop")
    # What the encoder reads is no text: nothing of it goes into the prefix cache.
    job = make_job(call, model, b"", _PROMPT_TOKENS, [script], len(script.pieces), "")
    return SpeechAnswer(
        model=model,
        kind=kind,
        response_id=f"{'trsc' if kind == 'transcription' else 'trsl'}-{call.request_id()}",
        created=int(time.time()),
        script=script,
        seconds=seconds,
        language=values.get("language") or "en",
        form=form,
        job=job,
        stream=stream,
        include_usage=include_usage,
    )


def audio_seconds(content: bytes) -> float:
    """The length of a recording: exact for WAV, a guess by size for all others."""
    if content[:4] == b"RIFF" and content[8:12] == b"WAVE" and len(content) >= 44:
        (rate,) = struct.unpack_from("<I", content, 28)
        if rate:
            return round((len(content) - 44) / float(rate), 3)
    return round(len(content) / _GUESSED_BYTES_PER_SECOND, 3)


def _read_form(call: Call) -> dict[str, Part]:
    content_type = call.headers.get("content-type", "")
    if not content_type.lower().startswith("multipart/form-data"):
        return {}
    try:
        parts = parse_form(content_type, call.body)
    except MultipartError as error:
        raise ReplyError(shape_b(400, str(error))) from None
    return {part.name: part for part in parts}


def _truth(values: dict[str, str], name: str) -> bool:
    return values.get(name, "").strip().lower() in ("true", "1", "on", "yes")


async def _stream(call: Call, answer: SpeechAnswer, ticket: Ticket) -> AsyncIterator[bytes]:
    pending: list[bytes] = []
    async for start, end in call.engine.pace(ticket):
        for position in range(start, end):
            piece = answer.script.pieces[position]
            pending.append(_chunk(answer, {"content": piece.lstrip() if position == 0 else piece}))
        if answer.job.paced:
            yield b"".join(pending)
            pending.clear()
    pending.append(_chunk(answer, {"content": ""}, ticket.finish_reason(0)))
    if answer.include_usage:
        generated = len(answer.script.pieces)
        usage = {
            "prompt_tokens": answer.job.prompt_tokens,
            "completion_tokens": generated,
            "total_tokens": answer.job.prompt_tokens + generated,
        }
        pending.append(event(_head(answer) | {"choices": [], "usage": usage}))
    pending.append(DONE)
    yield b"".join(pending)


def _head(answer: SpeechAnswer) -> dict[str, Any]:
    return {
        "id": answer.response_id,
        "object": f"{answer.kind}.chunk",
        "created": answer.created,
        "model": answer.model.name,
    }


def _chunk(answer: SpeechAnswer, delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
    choice = {"delta": delta, "finish_reason": finish_reason, "stop_reason": None}
    return event(_head(answer) | {"choices": [choice]})
