"""A line of a batch's input: what it must have, and what is wrong with it in the words of OpenAI's batch errors."""

from dataclasses import dataclass
from typing import Any, Final

import msgspec

from aibrix_extproc.core.openai.contract.operation_rows import BATCH_OPERATIONS
from aibrix_extproc.core.openai.contract.operations import Stream, shown
from aibrix_extproc.core.openai.wire.sizes import BYTES_PER_TOKEN

MAX_CUSTOM_ID: Final = 512
_BEGINNING_BYTES: Final = 4096


class _Envelope(msgspec.Struct):
    custom_id: msgspec.Raw = msgspec.Raw()
    method: msgspec.Raw = msgspec.Raw()
    url: msgspec.Raw = msgspec.Raw()
    body: msgspec.Raw = msgspec.Raw()


class _Body(msgspec.Struct):
    model: msgspec.Raw = msgspec.Raw()
    stream: msgspec.Raw = msgspec.Raw()
    stream_options: msgspec.Raw = msgspec.Raw()
    messages: msgspec.Raw = msgspec.Raw()
    input: msgspec.Raw = msgspec.Raw()
    prompt: msgspec.Raw = msgspec.Raw()
    documents: msgspec.Raw = msgspec.Raw()
    text_1: msgspec.Raw = msgspec.Raw()


_ENVELOPE: Final = msgspec.json.Decoder(_Envelope)
_BODY: Final = msgspec.json.Decoder(_Body)


@dataclass(frozen=True, slots=True)
class LineError:
    """One entry of a failed batch's `errors`."""

    code: str
    message: str
    param: str | None = None
    line: int | None = None

    def as_object(self) -> dict[str, object]:
        """The JSON object."""
        return {"code": self.code, "message": self.message, "param": self.param, "line": self.line}


@dataclass(frozen=True, slots=True)
class RequestLine:
    """A line that can be run."""

    custom_id: str
    model: str
    body: bytes  # JSON, as the client wrote it but for `stream_options`
    beginning: bytes  # of its prompt, as JSON; requests that share it share an engine's cache
    tokens: int  # of its prompt, estimated


def read_line(text: bytes, endpoint: str, number: int) -> RequestLine | LineError:
    """The request on a line, or what is wrong with it. Whether its model exists is asked elsewhere."""
    try:
        text.decode("utf-8")
        envelope = _ENVELOPE.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return LineError("invalid_json_line", "This line is not parseable as valid JSON.", None, number)
    custom_id = _string(envelope.custom_id)
    for param, raw in (
        ("custom_id", envelope.custom_id), ("method", envelope.method), ("url", envelope.url), ("body", envelope.body),
    ):  # fmt: skip
        if bytes(raw) in (b"", b"null"):
            return LineError("missing_required_parameter", f"Missing required parameter: '{param}'.", param, number)
    if custom_id is None or not 0 < len(custom_id) <= MAX_CUSTOM_ID:
        message = f"Invalid 'custom_id': expected a string of 1 to {MAX_CUSTOM_ID} characters."
        return LineError("invalid_request", message, "custom_id", number)
    if (_string(envelope.method) or "").upper() != "POST":
        return LineError("invalid_method", "The method of a request must be POST.", "method", number)
    if _string(envelope.url) != endpoint:
        message = "The URL provided for this request does not match the batch endpoint."
        return LineError("invalid_url", message, "url", number)
    return _read_body(custom_id, bytes(envelope.body), endpoint, number)


def _read_body(custom_id: str, raw: bytes, endpoint: str, number: int) -> RequestLine | LineError:
    try:
        body = _BODY.decode(raw)
    except msgspec.DecodeError:
        return LineError("invalid_request", "The body of a request must be a JSON object.", "body", number)
    model = _string(body.model)
    if not model or not model.strip():
        return LineError("invalid_request", "Model parameter is required.", "body.model", number)
    operation = BATCH_OPERATIONS[endpoint]
    prompt = operation.prompt_param
    if prompt is not None and bytes(getattr(body, prompt)) in (b"", b"null"):
        message = f"{prompt.capitalize()} parameter is required."
        return LineError("invalid_request", message, f"body.{prompt}", number)
    if operation.stream is not Stream.NONE and bytes(body.stream) not in (b"", b"null", b"false"):
        message = f"{operation.batch_name}: Streaming is not supported in the Batch API."
        return LineError("streaming_unsupported", message, "body.stream", number)
    if bytes(body.stream_options):
        raw = _without(raw, "stream_options")
    text = memoryview(raw if prompt is None else getattr(body, prompt))
    return RequestLine(custom_id, model, raw, bytes(text[:_BEGINNING_BYTES]), max(text.nbytes // BYTES_PER_TOKEN, 1))


def _without(raw: bytes, name: str) -> bytes:
    """The body without a field that means nothing for a whole answer, but that engines refuse then."""
    fields: dict[str, Any] = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    del fields[name]
    return msgspec.json.encode(fields)


def _string(raw: msgspec.Raw) -> str | None:
    text = bytes(raw)
    if not text.startswith(b'"'):
        return None
    try:
        found: str = msgspec.json.decode(text, type=str)
        found.encode("utf-8")  # a lone surrogate cannot be written into the output
    except (msgspec.DecodeError, UnicodeEncodeError):
        return None
    return found


def unknown_model(model: str, number: int) -> LineError:
    """The model does not exist for the caller, or cannot do what the batch asks."""
    message = f"The provided model '{shown(model, 128)}' is not supported by the Batch API."
    return LineError("model_not_found", message, "body.model", number)


def other_model(model: str, first: str, number: int) -> LineError:
    """A second model in one batch."""
    message = (
        f"The model '{shown(model, 128)}' does not match the rest of the batch, which uses '{shown(first, 128)}'. "
        "Each batch must contain requests for a single model."
    )
    return LineError("mismatched_model", message, "body.model", number)


def repeated_id(custom_id: str, first: int, number: int) -> LineError:
    """A custom_id that an earlier line has."""
    message = f"The custom_id '{shown(custom_id, 128)}' is a duplicate of the one on line {first}."
    return LineError("duplicate_custom_id", message, "custom_id", number)


def too_many_tokens(model: str | None, most: int) -> LineError:
    """More is enqueued for the model, or for all together, than a limit allows."""
    what = "all models together" if model is None else shown(model, 128)
    message = (
        f"Enqueued token limit reached for {what}. Limit: {most:,} enqueued tokens. Please try again once"
        " some in_progress batches have been completed."
    )
    return LineError("token_limit_exceeded", message)
