"""multipart/form-data, read in full; small and strict, and not the gateway's own parser."""

from dataclasses import dataclass
from email.message import Message


class MultipartError(ValueError):
    """A body that is no form; the text is Starlette's."""


@dataclass(frozen=True, slots=True)
class Part:
    """One field; files have a name of their own."""

    name: str
    filename: str | None
    content: bytes

    @property
    def text(self) -> str:
        """The field as text."""
        return self.content.decode("utf-8", "replace")


def parse_form(content_type: str, body: bytes) -> list[Part]:
    """The fields of a form, in their order."""
    boundary = _parameter("content-type", content_type, "boundary")
    if not boundary:
        raise MultipartError("Missing boundary in multipart.")
    delimiter = b"--" + boundary.encode("latin-1", "replace")
    # With a line break in front every delimiter, the first one too, looks the same.
    sections = (b"\r\n" + body).split(b"\r\n" + delimiter)
    if len(sections) < 2 or not sections[-1].startswith(b"--"):
        raise MultipartError("There was an error parsing the body")
    return [_part(section) for section in sections[1:-1]]


def _part(section: bytes) -> Part:
    head, blank, content = section.lstrip(b" \t").partition(b"\r\n\r\n")
    if not blank:
        raise MultipartError("There was an error parsing the body")
    disposition = ""
    for line in head.split(b"\r\n"):
        key, _, value = line.partition(b":")
        if key.strip().lower() == b"content-disposition":
            disposition = value.strip().decode("utf-8", "replace")
    name = _parameter("content-disposition", disposition, "name")
    if name is None:
        raise MultipartError('The Content-Disposition header field "name" must be provided.')
    return Part(name, _parameter("content-disposition", disposition, "filename"), content)


def _parameter(header: str, value: str, name: str) -> str | None:
    message = Message()
    message[header] = value.replace("\r", " ").replace("\n", " ")
    found = message.get_param(name, header=header)
    return found if isinstance(found, str) else None
