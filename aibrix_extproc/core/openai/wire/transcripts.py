"""Transcripts in the form that the client asked for: engines give JSON, OpenAI also gives plain text."""

import msgspec


class _Transcript(msgspec.Struct):
    text: str


def transcript_text(body: bytes) -> bytes | None:
    """The text of a JSON transcript, ended by a newline as OpenAI does; None if the body is none."""
    try:
        return msgspec.json.decode(body, type=_Transcript).text.encode() + b"\n"
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
