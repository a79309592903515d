"""Request material: small, valid, the same each time."""

import io
import struct
import wave
import zlib
from typing import Any, Final

from aibrix_extproc.conformance.wire import Answer

HELLO: Final = ({"role": "user", "content": "Say hello."},)
WRONG_KEY: Final = "sk-conformance-wrong-0123456789"
UNKNOWN_MODEL: Final = "no-such-model-of-conformance"
BOUNDARY: Final = "conformance-cut-here"
ORIGIN: Final = "https://app.example"


def tool(*, strict: bool = False) -> dict[str, Any]:
    """A function that a model may call; if strict, only with arguments that follow its schema."""
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    bounded = {"strict": True, "parameters": {**schema, "additionalProperties": False}}
    return {"type": "function", "function": {"name": "weather", **(bounded if strict else {"parameters": schema})}}


def wav(seconds: float = 0.2) -> bytes:
    """Silence."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(b"\0\0" * int(16_000 * seconds))
    return buffer.getvalue()


def png(side: int = 64) -> bytes:
    """A grey square, large enough for the patches of vision models."""
    rows = b"".join(b"\0" + b"\x80" * side for _ in range(side))
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def form(*parts: tuple[str, bytes], boundary: str = BOUNDARY) -> bytes:
    """A form of parts as (what follows `form-data; `, content)."""
    blocks = (
        f"--{boundary}\r\ncontent-disposition: form-data; {head}\r\n\r\n".encode() + content + b"\r\n"
        for head, content in parts
    )
    return b"".join(blocks) + f"--{boundary}--\r\n".encode()


def file_part(content: bytes | None = None, name: str = "a.wav") -> tuple[str, bytes]:
    """The audio file of a form."""
    return f'name="file"; filename="{name}"', wav() if content is None else content


def model_part(model: str) -> tuple[str, bytes]:
    """The model of a form."""
    return 'name="model"', model.encode()


def form_type(boundary: str = BOUNDARY) -> dict[str, str]:
    """The header of a form."""
    return {"content-type": f"multipart/form-data; boundary={boundary}"}


def data_lines(answer: Answer) -> list[str]:
    """What follows `data:` in an event stream."""
    lines = answer.body.decode(errors="replace").replace("\r\n", "\n").split("\n")
    return [line.removeprefix("data:").strip() for line in lines if line.startswith("data:")]
