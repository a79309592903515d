"""The files that samples read: a recording, a picture, the lines of a batch."""

import base64
import io
import json
import math
import struct
import wave
from pathlib import Path
from typing import Final

_RATE: Final = 16_000
_PICTURE: Final = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def recording(seconds: float = 1.0) -> bytes:
    """A tone, as a WAV file."""
    made = io.BytesIO()
    with wave.open(made, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(_RATE)
        samples = (int(9000 * math.sin(at / _RATE * 2765)) for at in range(int(_RATE * seconds)))
        file.writeframes(b"".join(struct.pack("<h", one) for one in samples))
    return made.getvalue()


def picture() -> bytes:
    """A picture of one pixel, as a PNG file."""
    return base64.b64decode(_PICTURE)


def write_files(folder: Path) -> None:
    """Put all of them into a folder."""
    (folder / "speech.wav").write_bytes(recording())
    (folder / "picture.png").write_bytes(picture())
    lines = (
        {"custom_id": f"q{number}", "method": "POST", "url": "/v1/chat/completions",
         "body": {"model": "chat", "messages": [{"role": "user", "content": f"Question {number}"}], "max_tokens": 4}}
        for number in range(3)
    )  # fmt: skip
    (folder / "lines.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n", encoding="utf-8")
