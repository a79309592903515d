"""Good messages to begin from: a request of every operation, and answers as vLLM 0.32, proxies and Envoy gave them."""

import json
from dataclasses import dataclass, field
from typing import Final

from aibrix_extproc.core.routing.response_ids import IdKey
from aibrix_extproc.simulator.errors import shaped
from tests.build import an_endpoint

SECRET: Final = b"what the ids of responses are made with"
# A response that the rig's first engine holds for its caller; it does not age, and is the same in every run.
HELD: Final = IdKey(SECRET).issue("team-a", "chat-m", [an_endpoint(1)], wall_at=2**32 - 1, random=0.5)
JSON: Final = {"content-type": "application/json"}
FORM: Final = {"content-type": "multipart/form-data; boundary=cut"}
PAIRS: Final = [{"role": "user", "content": "Hello, what is 2+2?"}]


@dataclass(frozen=True, slots=True)
class Request:
    """What a client sends."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Answer:
    """What comes back through Envoy; `details` other than via_upstream are Envoy's own answers."""

    status: int
    headers: dict[str, str]
    body: bytes = b""
    details: str = "via_upstream"
    flags: int = 0
    trailers: dict[str, str] = field(default_factory=dict)


def _post(path: str, **fields: object) -> Request:
    data = json.dumps({"model": "chat-m", **fields}).encode()
    headers = {"authorization": "Bearer good", "accept-encoding": "gzip, deflate", "x-stainless-read-timeout": "600"}
    return Request("POST", path, {**JSON, **headers, "content-length": str(len(data))}, data)


def _get(path: str, method: str = "GET") -> Request:
    return Request(method, path, {"authorization": "Bearer good"})


def _form(path: str, **fields: str) -> Request:
    file = b'--cut\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\nContent-Type: audio/wav\r\n\r\n'
    parts = [file + b"RIFF\x00\x01\xff" + bytes(range(64)) + b"\r\n"]
    parts += [
        f'--cut\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    return Request("POST", path, {**FORM, "authorization": "Bearer good"}, b"".join(parts) + b"--cut--\r\n")


REQUESTS: Final = (
    _post("/v1/chat/completions", messages=PAIRS, temperature=0.5, max_tokens=16, user="日本"),
    _post("/v1/chat/completions", messages=PAIRS, stream=True),
    _post("/v1/chat/completions", messages=PAIRS, stream=True, stream_options={"include_usage": True}),
    _post("/v1/chat/completions", messages=PAIRS, stream=True, stream_options={"continuous_usage_stats": False}),
    _post("/v1/completions", prompt=["a", "b"], stream=True, stream_options=None),
    _post("/v1/responses", input="Hello", metadata={"a": "b"}),
    _post("/v1/responses", input=[{"role": "user", "content": "x"}], request_id="mine", stream=True),
    _post("/v1/responses", input="more", previous_response_id=HELD),
    _post("/v1/messages", messages=PAIRS, max_tokens=8, stream=True),
    _post("/v1/messages/count_tokens", messages=PAIRS),
    _post("/v1/embeddings", input=["a", "b"], encoding_format="base64"),
    _post("/v1/rerank", query="q", documents=["a", "b"]),
    _post("/score", text_1="a", text_2=["b"]),
    _post("/v1/classify", input="x"),
    _post("/pooling", input="x"),
    _post("/tokenize", prompt="x"),
    _post("/detokenize", tokens=[1, 2]),
    _form("/v1/audio/transcriptions", model="chat-m", response_format="text"),
    _form("/v1/audio/transcriptions", model="chat-m", stream="true"),
    _form("/v1/audio/translations", model="chat-m"),
    _get("/v1/models"),
    _get("/v1/models/org%2Fmodel"),
    _get("/v1/models/chat-m", "DELETE"),
    _get(f"/v1/responses/{HELD}"),
    _get(f"/v1/responses/{HELD}", "DELETE"),
    Request("POST", f"/v1/responses/{HELD}/cancel", {"authorization": "Bearer good"}),
    _get(f"/v1/responses/{HELD}/input_items?limit=2"),
    _post("/v1/moderations", input="x"),
    _get("/v1/files"),
    _get("/metrics"),
    Request(
        "OPTIONS", "/v1/chat/completions", {"origin": "https://a.example", "access-control-request-method": "POST"}
    ),
)


def _json(status: int, value: object, **headers: str) -> Answer:
    data = json.dumps(value).encode()
    own = {"server": "uvicorn", "content-length": str(len(data)), "vary": "Origin"}
    return Answer(status, {**JSON, **own, **{name.replace("_", "-"): text for name, text in headers.items()}}, data)


def _refused(status: int, kind: str, message: str, param: str | None = None) -> Answer:
    return _json(status, {"error": {"message": message, "type": kind, "param": param, "code": status}})


_DUMP: Final = (
    "2 validation errors:\n  {'type': 'missing', 'loc': 'body.messages.0.ChatCompletionUserMessageParam.role', "
    "'msg': 'Field required', 'input': '<dict of 2 items>'}\n  {'type': 'string_type', 'loc': ('body', 'messages', 0, "
    "'content', 'str'), 'msg': 'Input should be a valid string', 'input': {'a': [1, \"b\"]}, 'ctx': {'le': 2.0}}"
)
_FASTAPI: Final = [
    {"type": "missing", "loc": ["body", "messages", 0, "role"], "msg": "Field required", "input": {"a": 1}}
]

ANSWERS: Final = (
    _refused(404, "NotFoundError", "The model `nope` does not exist. Valid aliases: a, b.", "model"),
    _refused(400, "Bad Request", _DUMP, "body.messages.0.ChatCompletionUserMessageParam.role"),
    _refused(400, "BadRequestError",
             "max_tokens=100000 cannot be greater than max_model_len=256. Please request fewer output tokens. "
             "(parameter=max_tokens, value=100000)", "max_tokens"),
    _refused(400, "BadRequestError",
             "This model's maximum context length is 256 tokens. However, your prompt contains at least 257 input "
             "tokens. Please reduce the length of the input prompt or the number of requested output tokens.",
             "input_tokens"),
    _refused(400, "BadRequestError", "top_p must be in (0, 1], got 3.0. (parameter=top_p, value=3.0)"),
    _refused(500, "InternalServerError", 'EngineCore died. Traceback: File "/usr/lib/vllm/core.py", line 3, in f'),
    _json(422, {"detail": _FASTAPI}),
    _json(404, {"detail": "Not Found"}),
    _json(405, {"detail": "Method Not Allowed"}, allow="POST"),
    *(Answer(status, {"content-type": reply.content_type}, reply.body)
      for status in (400, 401, 403, 404, 409, 413, 429, 503)
      for reply in (shaped(letter, status, "something is wrong") for letter in "ABCDEFG")),
    Answer(502, {"content-type": "text/html"}, b"<html><body>502 Bad Gateway</body></html>"),
    Answer(307, {"location": "http://10.0.0.9/elsewhere"}, b""),
    Answer(429, {"retry-after": "120"}, b""),
    Answer(503, {}, b"upstream connect error or disconnect/reset before headers",
           "upstream_reset_before_response_started{connection_termination}", 0x40),
    Answer(504, {}, b"upstream request timeout", "response_timeout", 0x4),
    Answer(413, {}, b"Payload Too Large", "request_payload_too_large"),
    Answer(503, {}, b"no healthy upstream", "no_healthy_upstream", 0x2),
    _json(200, {"id": "chatcmpl-1", "object": "chat.completion", "choices": [], "usage": {"total_tokens": 3}}),
    _json(200, {"text": "hello", "usage": {"type": "duration", "seconds": 3}}),
    _json(200, {"error": {"message": "late", "type": "x", "param": None, "code": 500}}, endpoint_load_metrics="x"),
    Answer(200, {"content-type": "text/event-stream; charset=utf-8"}, b"data: [DONE]\n\n", trailers={"x": "y"}),
    Answer(200, {"content-type": "text/html"}, b"<html>welcome</html>"),
    Answer(200, {"content-length": "0"}),
    Answer(204, {}),
)  # fmt: skip
