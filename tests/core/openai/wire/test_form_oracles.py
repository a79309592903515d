"""Forms mutated in every way: what we accept, the engines' own parser reads in the same way.

Starlette with python-multipart is what vLLM reads forms with; `multipart` is a second opinion. All of them may refuse
more than we do not; none may see another field, another file or another value.
"""

import asyncio
import random
from collections.abc import AsyncGenerator
from typing import Final

import multipart
import pytest
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from aibrix_extproc.core.openai.contract.errors import Problem
from aibrix_extproc.core.openai.wire.multipart import FormFacts
from tests.core.openai.wire.forms import form_fields

Form = dict[str, str | tuple[str, bytes]]
FORMS: Final = 12_000
BOUNDARIES: Final = [
    "cut",
    "----WebKitFormBoundary7MA4YWxkTrZu0gW",
    "-",
    "--",
    "a b",
    "b'()+_,-./:=?",
    "x" * 70,
    "x" * 199,
]
TYPES: Final = [
    "multipart/form-data; boundary={}", 'multipart/form-data; boundary="{}"', "Multipart/Form-Data;BOUNDARY={}",
    'multipart/form-data; charset=utf-8; boundary="{}"', "multipart/form-data; boundary={}; charset=UTF-8",
    "multipart/form-data ;boundary = {} ;", "multipart/form-data; boundary={}; boundary={}",
    "multipart/form-data; charset=latin-1; boundary={}", "multipart/form-data; charset=utf-16; boundary={}",
    'multipart/form-data; boundary="{}', "multipart/form-data; boundary={}, multipart/form-data; boundary=x",
    "multipart/form-data; boundary*=utf-8''{}", 'multipart/form-data; boundary="{}\\""',
    "multipart/form-data;;boundary={}",
    "multipart/form-data; boundary={}\tx", 'multipart/form-data; x="a;boundary=y"; boundary={}',
    "multipart/form-data boundary={}", "multipart/form-data; boundary={} x", "multipart/form-data; boundary='{}'",
]  # fmt: skip
DISPOSITIONS: Final = [
    'form-data; name="{}"', "form-data; name={}", 'form-data; NAME="{}"', 'form-data;name="{}"',
    'Form-Data ; name = "{}"',
    'form-data; name="{}"; filename="a.wav"', 'form-data; filename="a;b.wav"; name="{}"',
    'form-data; name="{}"; filename=""', 'form-data; name="{}"; filename=a.wav', 'form-data; name="{}"; filename',
    'form-data; name="{}"; filename="a\\"; name=\\"model\\"; x=\\""', 'form-data; name="{}"; filename="C:\\a\\b.wav"',
    'form-data; name="{}"; filename="a\\\\"', 'form-data; name="{}"; filename="a\\\\"; name="model"',
    'form-data; name="x\\"; name=\\"{}"', "form-data; name=\"{}\"; filename*=UTF-8''a.wav",
    "form-data; name=\"{}\"; filename=\"e\"; filename*=UTF-8''%e2%82%ac", "form-data; name*=UTF-8''{}",
    "form-data; name=\"x\"; name*=UTF-8''{}", 'form-data; name*0="mod"; name*1="el"', 'form-data; name="x"; name="{}"',
    'form-data; name="{}";', 'form-data;; name="{}"', 'form-data; name="{}" x', 'form-data; name="{}"x',
    'form-data; name=" {} "', "form-data; name='{}'", 'attachment; name="{}"', "form-data", '; name="{}"',
    'form-data, name="{}"', 'form-data; name="{}"; filename="é€.wav"', 'form-data; x="; name=y;"; name="{}"',
    'form-data; x="a;b;c;d"; name="{}"', 'form-data; name="{}"; x="a;b;;c', 'form-data; \xa0name="{}"',
    'form-data; name="{}"; filename="a;b;c;d;e"', 'form-data; name="a;b;{}"',
    'form-data; name="{}"; filename="%22; x=y"',
]  # fmt: skip
NAMES: Final = [
    "model",
    "stream",
    "file",
    "prompt",
    "language",
    "temperature",
    "Model",
    "model ",
    "mod\u00e9l",
    "",
    "a=b",
    "[]",
]
VALUES: Final = [
    b"m", b"true", b"", b"m\r\n", b"\r\nm", b"m\n", b"\xff", "\u20ac".encode(),
    b"\xef\xbb\xbfm", b"--", b"-", b"\r\n--", b"\r\n-",
    b"\r",
    b"--cut", b"\r\n--cu", b"\r\n--cutx", b"\r\n--cut \r\n", b"\r\n--cut-", b"\r\n--cut\r", b"x\r\r\n--cut\n", b"\0",
]  # fmt: skip
EXTRA: Final = [
    b"Content-Type: text/plain; charset=utf-16", b"Content-Type: multipart/mixed; boundary=inner", b"X:y", b"X:",
    b": y", b"X",
    b"Content-Transfer-Encoding: base64", b"Content-Transfer-Encoding: binary",
    b"content-disposition: form-data; name=x",
    b"X : y", b" folded", b"X: a\nContent-Disposition: form-data; name=y", b"X: \xff\x00",
    b"Content-Length: 3", b"X: " + b"y" * 5000,
]  # fmt: skip


def a_form(rng: random.Random) -> tuple[str, bytes]:
    """A form out of usual and unusual pieces, and then mutated or not."""
    boundary = rng.choice(BOUNDARIES)
    content_type = (rng.choice(TYPES) if rng.random() < 0.2 else 'multipart/form-data; boundary="{}"').replace(
        "{}", boundary
    )
    delimiter = b"--" + boundary.encode()
    body = rng.choice([b""] * 12 + [b"\r\n", b"preamble\r\n", b"\n", delimiter + b"x\r\n", b"\r\nx"])
    for _ in range(rng.randrange(5)):
        body += (
            delimiter
            + rng.choice([b"\r\n"] * 30 + [b" \r\n", b"\n", b"\t \r\n", b"x\r\n", b"-\r\n", b"--\r\n"])
            + a_part(rng, boundary)
        )
    body += delimiter + rng.choice(
        [b"--\r\n"] * 20 + [b"--", b"-", b"", b"\r\n", b"-- \r\n", b"--\r\nepilogue", b" --\r\n"]
    )
    return content_type, mutated(rng, body) if rng.random() < 0.25 else body


def a_part(rng: random.Random, boundary: str) -> bytes:
    usual = rng.random() < 0.85
    pattern = rng.choice(DISPOSITIONS[:6]) if usual else rng.choice(DISPOSITIONS)
    disposition = pattern.replace("{}", rng.choice(NAMES[:6] if usual else NAMES))
    lines = [b"Content-Disposition: " + disposition.encode("utf-8" if rng.random() < 0.9 else "latin-1", "replace")]
    if rng.random() < 0.12:
        lines.insert(rng.randrange(2), rng.choice(EXTRA))
    value = rng.choice(VALUES[:14] if usual else VALUES).replace(b"cut", boundary.encode())
    return b"\r\n".join(lines) + b"\r\n\r\n" + value + rng.choice([b"\r\n"] * 40 + [b"\n", b""])


def mutated(rng: random.Random, body: bytes) -> bytes:
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(body) + 1)
        inserted = rng.choice(
            [b"", b"\r", b"\n", b'"', b"\\", b";", b"=", b" ", b"\t", b"-", b"*", b"\x00", b"\xff", b"\r\n", b":"]
        )
        body = body[:at] + inserted + body[at + rng.randrange(3) :]
    return body


async def starlette_reads(content_type: str, body: bytes, pieces: list[int]) -> Form | None:
    """What the engine's parser makes of a body that comes in pieces; None if it refuses."""

    async def stream() -> AsyncGenerator[bytes, None]:
        last = 0
        for end in [*pieces, len(body)]:
            yield body[last:end]
            last = end

    try:
        form = await MultiPartParser(Headers({"content-type": content_type}), stream()).parse()
    except (MultiPartException, UnicodeError):
        return None
    found: Form = {}
    for name, value in form.multi_items():  # the last one counts, as in `FormData.get`
        found[name] = (value.filename or "", await value.read()) if isinstance(value, UploadFile) else value
    await form.close()
    return found


def multipart_reads(boundary: str, body: bytes) -> Form | None:
    """What the library `multipart` makes of it; None if it refuses."""
    found: Form = {}
    try:
        with multipart.PushMultipartParser(boundary, strict=True) as parser:
            content = b""
            for event in (*parser.parse(body), *parser.parse(b"")):
                if isinstance(event, multipart.MultipartSegment):
                    segment, content = event, b""
                elif event is not None:
                    content += event
                elif segment.filename is None:
                    found[segment.name] = content.decode("utf-8")
                else:
                    found[segment.name] = (segment.filename, content)
    except (multipart.MultipartError, UnicodeError):
        return None
    return found


def we_read(content_type: str, body: bytes) -> Form | None:
    facts = form_fields(content_type, body)
    if isinstance(facts, Problem):
        return None
    files: Form = {one.name: (one.filename, body[one.start : one.start + one.size]) for one in facts.files}
    return {**{name: value for name, value in files.items() if name not in facts.values}, **facts.values}


def contents(form: Form) -> dict[str, str | bytes]:
    """Without the filenames: spelling of those is nobody's concern but whether there is one."""
    return {name: value if isinstance(value, str) else value[1] for name, value in form.items()}


@pytest.mark.parametrize("seed", range(6))
def test_form_that_is_accepted_is_read_as_the_engine_reads_it(seed: int) -> None:
    rng = random.Random(seed)

    async def check() -> int:
        accepted = 0
        for _ in range(FORMS // 6):
            content_type, body = a_form(rng)
            ours = we_read(content_type, body)
            if ours is None:
                continue
            accepted += 1
            pieces = sorted(rng.randrange(len(body) + 1) for _ in range(rng.randrange(4)))
            for cut in ([], pieces, list(range(1, len(body)))):
                theirs = await starlette_reads(content_type, body, cut)
                assert theirs is not None, (content_type, body, cut)
                assert contents(theirs) == contents(ours), (content_type, body, cut)
        return accepted

    assert asyncio.run(check()) > FORMS // 6 // 5


@pytest.mark.parametrize("seed", range(2))
def test_form_that_is_accepted_is_never_another_one_for_a_second_parser(seed: int) -> None:
    rng = random.Random(1000 + seed)
    agreed = 0
    for _ in range(FORMS // 4):
        boundary = "cut"
        content_type, body = a_form(rng)
        if "cut" not in content_type:
            continue
        ours, theirs = we_read("multipart/form-data; boundary=cut", body), multipart_reads(boundary, body)
        if ours is not None and theirs is not None:
            agreed += 1
            assert contents(theirs) == contents(ours), body
    assert agreed > 60


def test_forms_out_of_usual_pieces_are_accepted() -> None:
    """Whatever the engine reads of the first few pieces, we read, too: strictness costs honest clients nothing."""
    rng = random.Random(7)
    for _ in range(500):
        boundary = rng.choice(BOUNDARIES)
        delimiter = b"--" + boundary.encode()
        body = b""
        for _ in range(rng.randrange(1, 6)):
            disposition = rng.choice(DISPOSITIONS[:9]).replace("{}", rng.choice(NAMES[:6]))
            body += (
                delimiter
                + b"\r\nContent-Disposition: "
                + disposition.encode()
                + b"\r\n\r\n"
                + rng.choice(VALUES[:5])
                + b"\r\n"
            )
        facts = form_fields(f'multipart/form-data; boundary="{boundary}"', body + delimiter + b"--\r\n")
        assert isinstance(facts, FormFacts), (facts, body)
