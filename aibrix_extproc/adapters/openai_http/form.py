"""A multipart form with one file, read as it comes: fields are kept, the file's bytes pass."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from multipart import MultipartError, ParserLimitReached, PushMultipartParser, parse_options_header

from aibrix_extproc.adapters.openai_http.call import Call, refuse

MAX_FIELDS: Final = 32
MAX_FIELD_BYTES: Final = 16_384
MAX_HEADER_BYTES: Final = 8_192
MAX_BOUNDARY: Final = 200  # RFC 2046 allows 70; some clients make longer ones

Keep = Callable[[str, AsyncIterator[bytes]], Awaitable[None]]


@dataclass(slots=True)
class Form:
    """The fields of a form, and whether the file was there."""

    fields: dict[str, str] = field(default_factory=dict)
    filename: str | None = None
    has_file: bool = False


async def read_form(call: Call, file_field: str, keep: Keep) -> Form:
    """Read the body to its end; `keep` gets the file's name and its bytes. Raises RefusedError and what `keep` raises.

    Fields may come before and after the file. A second file is an error: nobody could say which one counts.
    """
    events = _events(call)
    form = Form()
    try:
        async for name, filename, content in _parts(events):
            if name == file_field:
                if form.has_file:
                    raise refuse("malformed_multipart", reason=f"the field '{file_field}' comes twice")
                form.has_file, form.filename = True, filename
                await keep(filename or "", content)
            else:
                await _take_field(form, name, content)
    except ParserLimitReached:
        raise refuse("malformed_multipart", reason="it has too many or too large parts") from None
    except MultipartError as error:
        raise refuse("malformed_multipart", reason=_reason(error)) from None
    finally:
        await events.aclose()
    return form


async def _take_field(form: Form, name: str, content: AsyncIterator[bytes]) -> None:
    value = bytearray()
    async for piece in content:
        value += piece
        if len(value) > MAX_FIELD_BYTES:
            raise refuse("malformed_multipart", reason=f"a field is longer than {MAX_FIELD_BYTES} bytes")
    try:
        form.fields[name] = value.decode("utf-8")
    except UnicodeDecodeError:
        raise refuse("malformed_multipart", reason="a field is not UTF-8") from None


async def _parts(events: AsyncGenerator[object, None]) -> AsyncIterator[tuple[str, str | None, AsyncIterator[bytes]]]:
    """The parts of the form; each one's content must be read, or is skipped, before the next."""

    async def content() -> AsyncIterator[bytes]:
        async for event in events:
            if not isinstance(event, (bytes, bytearray)):
                return  # None: the end of the part
            if event:
                yield bytes(event)

    async for segment in events:
        pieces = content()
        yield segment.name or "", segment.filename, pieces  # type: ignore[attr-defined]
        async for _ in pieces:
            pass


async def _events(call: Call) -> AsyncGenerator[object, None]:
    with _parser(call) as parser:
        async for piece in call.pieces():
            for event in parser.parse(piece):
                yield event
        parser.close()


def _parser(call: Call) -> PushMultipartParser:
    kind, options = parse_options_header(call.request.headers.get("content-type", "")[:1024])
    if kind != "multipart/form-data":
        raise refuse("unsupported_content_type", given=kind[:64], accepted="multipart/form-data")
    boundary = options.get("boundary", "")
    if not 0 < len(boundary) <= MAX_BOUNDARY:
        raise refuse("malformed_multipart", reason="there is no boundary in the content type")
    try:
        return PushMultipartParser(
            boundary, max_header_size=MAX_HEADER_BYTES, max_header_count=8, max_segment_count=MAX_FIELDS
        )
    except MultipartError as error:
        raise refuse("malformed_multipart", reason=_reason(error)) from None


def _reason(error: MultipartError) -> str:
    words = str(error.args[0]) if error.args else "it is out of shape"
    return words[:1].lower() + words[1:120]
