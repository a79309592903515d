"""Forms as SDKs send them, as they should not be sent, and cut or mutated in every way."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibrix_extproc.core.openai.contract.errors import Problem
from aibrix_extproc.core.openai.wire.multipart import (
    MAX_FIELD_BYTES,
    MAX_PARTS,
    STEP_BYTES,
    FormFacts,
    FormReader,
)
from aibrix_extproc.rope import rope_of
from tests.core.openai.wire.forms import form_fields

TYPE = "multipart/form-data; boundary=b0undary"


def form_field(content_type: str, body: bytes | memoryview, name: str) -> str | Problem | None:
    """One text field of a form: None if the form does not have it."""
    read = form_fields(content_type, body)
    return read if isinstance(read, Problem) else read.values.get(name)


def field(name: str, value: bytes) -> bytes:
    return f'Content-Disposition: form-data; name="{name}"'.encode() + b"\r\n\r\n" + value


def upload(content: bytes, disposition: str = 'form-data; name="file"; filename="a.wav"') -> bytes:
    head = f"Content-Disposition: {disposition}\r\nContent-Type: audio/wav\r\n\r\n"
    return head.encode() + content


def form(*parts: bytes, boundary: bytes = b"b0undary", closed: bool = True) -> bytes:
    body = b"".join(b"--" + boundary + b"\r\n" + part + b"\r\n" for part in parts)
    return body + b"--" + boundary + b"--\r\n" if closed else body


def facts(body: bytes, content_type: str = TYPE) -> FormFacts:
    found = form_fields(content_type, body)
    assert isinstance(found, FormFacts), found
    return found


def reason(body: bytes, content_type: str = TYPE) -> str:
    found = form_fields(content_type, body)
    assert isinstance(found, Problem)
    assert found.key == "malformed_multipart"
    return found.values["reason"]


AUDIO = b"RIFF\x00\r\n\r\n--b0\r\nxx--b0undary\r\n\xff"


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param((field("model", b"m"), upload(AUDIO)), id="python: fields before the file"),
        pytest.param((upload(AUDIO), field("model", b"m")), id="node: file before the fields"),
    ],
)
def test_form_model_is_found_on_either_side_of_the_file(parts: tuple[bytes, ...]) -> None:
    body = form(*parts, field("response_format", b"json"))
    found = facts(body)
    assert found.values == {"model": "m", "response_format": "json"}
    (file,) = found.files
    assert (file.name, file.filename, file.content_type) == ("file", "a.wav", "audio/wav")
    assert body[file.start : file.start + file.size] == AUDIO


@pytest.mark.parametrize(
    "content_type",
    [
        'multipart/form-data; boundary="b0undary"',
        "Multipart/Form-Data;BOUNDARY=b0undary",
        "multipart/form-data; charset=utf-8; boundary=b0undary",
        "multipart/form-data;  boundary = b0undary ;",
    ],
)
def test_form_boundary_in_any_spelling_is_understood(content_type: str) -> None:
    assert form_field(content_type, form(field("model", b"m")), "model") == "m"


def test_form_boundary_with_odd_characters_is_understood() -> None:
    body = form(field("model", b"m"), boundary=b"a b'()+_,-./:=?")
    assert form_field('multipart/form-data; boundary="a b\'()+_,-./:=?"', body, "model") == "m"


@pytest.mark.parametrize(
    ("text", "file"),
    [
        pytest.param(
            "Content-Type: text/plain; charset=utf-8\r\nContent-Disposition: form-data; name=model",
            "Content-Disposition: form-data; name=file; filename=a.wav; filename*=utf-8''a.wav", id=".NET",
        ),
        pytest.param(
            'Content-Disposition: form-data; name="model"\r\nContent-Type: text/plain; charset=US-ASCII\r\n'
            "Content-Transfer-Encoding: 8bit",
            'Content-Disposition: form-data; name="file"; filename="a.wav"\r\nContent-Transfer-Encoding: binary',
            id="Apache's HttpClient",
        ),
        pytest.param(
            'Content-Disposition: form-data; name="model"\r\nContent-Transfer-Encoding: binary\r\n'
            "Content-Type: application/json; charset=UTF-8\r\nContent-Length: 1",
            'Content-Disposition: form-data; name="file"; filename="a.wav"\r\nContent-Type: audio/*\r\n'
            "Content-Length: 9", id="OkHttp and Retrofit",
        ),
        pytest.param(
            'Content-Type: text/plain; charset=utf-8\r\nContent-Disposition: form-data; name="model"',
            'Content-Disposition: form-data; name="file"; filename="a%22b.wav"', id="aiohttp and httpx",
        ),
        pytest.param(
            'content-disposition: form-data; name="model"',
            'content-disposition: form-data; name="file"; filename="a\\"b.wav"\r\ncontent-type: audio/wav',
            id="Go and old curl",
        ),
    ],
)  # fmt: skip
def test_forms_as_clients_of_many_kinds_write_them_are_read(text: str, file: str) -> None:
    found = facts(form(f"{text}\r\n\r\nm".encode(), f"{file}\r\n\r\n".encode() + AUDIO))
    assert found.values == {"model": "m"}
    assert [(one.name, one.size) for one in found.files] == [("file", len(AUDIO))]


@pytest.mark.parametrize("preamble", [b"", b"\r\n"])
def test_form_line_break_before_it_and_epilogue_are_skipped(preamble: bytes) -> None:
    assert facts(preamble + form(field("model", b"m")) + b"--b0undary junk").values == {"model": "m"}


@pytest.mark.parametrize(
    "disposition",
    [
        'form-data; name="file"; filename="a%0D%0Ab.wav"',
        'form-data; name="file"; filename="a\\"b;c\\\\d.wav"',
        "form-data; name=file; filename=a.wav",
        'form-data; name="file"; filename="e.wav"; filename*=UTF-8\'\'%e2%82%ac.wav',
        'form-data; name="file"; filename="C:\\music\\a.wav"',
        'form-data; filename="é; name=\'x\'.wav"; name="file"',
        'form-data; name="file"; filename=""',
    ],
)
def test_form_file_with_an_odd_filename_is_one_file(disposition: str) -> None:
    found = facts(form(upload(AUDIO, disposition), field("model", b"m")))
    assert [file.name for file in found.files] == ["file"]
    assert found.values == {"model": "m"}


def test_form_filename_escapes_are_undone() -> None:
    (file,) = facts(form(upload(b"x", 'form-data; name="file"; filename="a\\"b"'))).files
    assert file.filename == 'a"b'


def test_form_field_given_twice_counts_as_the_engine_counts_it() -> None:
    assert facts(form(field("model", b"a"), field("model", b"b"))).values == {"model": "b"}


def test_form_file_called_model_hides_the_field_before_it() -> None:
    as_file = upload(b"x", 'form-data; name="model"; filename="m"')
    assert facts(form(field("model", b"a"), as_file)).values == {}
    assert facts(form(as_file, field("model", b"a"))).values == {"model": "a"}


def test_form_part_with_a_media_type_but_no_filename_is_a_field_as_for_the_engine() -> None:
    part = b'Content-Disposition: form-data; name="model"\r\nContent-Type: application/octet-stream\r\n\r\nm'
    assert facts(form(part)).values == {"model": "m"}


def test_form_without_parts_is_empty() -> None:
    assert facts(b"--b0undary--\r\n") == FormFacts({}, ())


def test_form_field_that_is_absent_is_none() -> None:
    assert form_field(TYPE, form(field("model", b"m")), "stream") is None


def test_form_field_that_is_empty_or_unicode_is_kept() -> None:
    found = facts(form(field("prompt", b""), field("model", "modèle\r\n2".encode())))
    assert found.values == {"prompt": "", "model": "modèle\r\n2"}


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_form_in_any_buffer_is_read(kind: type) -> None:
    assert form_field(TYPE, kind(form(field("model", b"m"))), "model") == "m"


def test_form_in_a_slice_of_a_buffer_is_read() -> None:
    body = form(field("model", b"m"))
    assert form_field(TYPE, memoryview(b"??" + body + b"??")[2:-2], "model") == "m"


@pytest.mark.parametrize("content_type", ["application/json", "", "multipart/mixed; boundary=b0undary", ";"])
def test_body_that_is_no_form_is_refused_by_its_type(content_type: str) -> None:
    found = form_fields(content_type, form(field("model", b"m")))
    assert isinstance(found, Problem)
    assert found.key == "unsupported_content_type"


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        'multipart/form-data; boundary=""',
        'multipart/form-data; boundary="b0undary',
        "multipart/form-data; boundary=b0undary; boundary=other",
        "multipart/form-data; boundary=" + "x" * 300,
        "multipart/form-data; boundary=bé",
        'multipart/form-data; boundary="b\r\n"',
        "multipart/form-data; boundary=b0undary; ???",
    ],
)
def test_form_without_a_usable_boundary_is_refused(content_type: str) -> None:
    assert "boundary" in reason(form(field("model", b"m")), content_type)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(b"", "closing boundary", id="empty"),
        pytest.param(b"no form at all", "closing boundary", id="no boundary"),
        pytest.param(form(field("model", b"m"), closed=False), "closing boundary", id="no closing boundary"),
        pytest.param(form(upload(AUDIO))[:-14], "closing boundary", id="cut inside the file"),
        pytest.param(b"--b0undary\r\nContent-Disp", "headers of a part", id="cut inside headers"),
        pytest.param(form(b"X: " + b"y" * 9000 + b"\r\n\r\nv"), "headers of a part", id="huge headers"),
        pytest.param(form(b"X: " + b"y" * 2**20 + b"\r\n\r\nv"), "headers of a part", id="header of a megabyte"),
        pytest.param(form(b"\r\nvalue\r\n\r\n"), "header out of shape", id="no headers"),
        pytest.param(form(b"Content-Type: text/plain\r\n\r\nv"), "no name", id="no disposition"),
        pytest.param(form(b"Content-Disposition: form-data\r\n\r\nv"), "no name", id="no name"),
        pytest.param(form(b'Content-Disposition: form-data; name="a\r\n\r\nv'), "out of shape", id="open quote"),
        pytest.param(form(b'Content-Disposition: form-data; name="a"; name="model"\r\n\r\nv'), "out of shape",
                     id="2 names"),
        pytest.param(form(b"Content-Disposition: form-data; name=\"a\"; name*=UTF-8''model\r\n\r\nv"), "encoded name",
                     id="encoded name"),
        pytest.param(form(upload(b"x", "form-data; name=\"f\"; filename*=UTF-8''a.wav")), "encoded name",
                     id="encoded filename alone"),
        pytest.param(form(upload(b"x", 'form-data; name="f"; filename="a\\\\"')), "out of shape", id="escaped escape"),
        pytest.param(form(upload(b"x", 'form-data;\r\n name="f"')), "out of shape", id="folded line"),
        pytest.param(form(b'Content-Disposition: attachment; name="a"\r\n\r\nv'), "out of shape", id="no form-data"),
        pytest.param(form(b'Content-Disposition: form-data; name="m"\r\nContent-Transfer-Encoding: base64\r\n\r\nYQ=='),
                     "Transfer-Encoding", id="base64"),
        pytest.param(form(b'Content-Disposition: form-data; name="\xff"\r\n\r\nv'), "not UTF-8", id="name not UTF-8"),
        pytest.param(form(b"X: y\r\n" * 9 + b"\r\nv"), "more than 8 headers", id="many headers"),
        pytest.param(b"This is a form.\r\n" + form(field("model", b"m")), "does not begin", id="preamble"),
        pytest.param(form(field("model", b"m")).replace(b"y\r\n", b"y \r\n", 1), "repeats", id="padded first boundary"),
        pytest.param(form(field("model", b"m")).replace(b"\r\n", b"\n"), "repeats the boundary", id="bare line feeds"),
        pytest.param(form(b'Content-Disposition: x; name="a"\r\nContent-Disposition: x; name="b"\r\n\r\nv'),
                     "two Content-Disposition", id="two dispositions"),
        pytest.param(form(b'Content-Disposition: form-data; name="f"; filename="a\r\nb"\r\n\r\nv'),
                     "header out of shape", id="line break in a filename"),
        pytest.param(form(b'Content-Disposition: form-data; name="f"; filename="a\nb"\r\n\r\nv'),
                     "header out of shape", id="bare line feed in a filename"),
        pytest.param(form(field("model", b"\xff")), "not UTF-8", id="bad UTF-8"),
        pytest.param(form(field("model", b"x" * (MAX_FIELD_BYTES + 1))), "too long", id="long field"),
        pytest.param(form(*[field(f"f{n}", b"x" * MAX_FIELD_BYTES) for n in range(5)]), "too long", id="much text"),
        pytest.param(form(*[field("f", b"x")] * (MAX_PARTS + 1)), "more than", id="many parts"),
        pytest.param(form(*[field("f", b"x")] * 10_000, field("model", b"m")), "more than", id="10,000 parts"),
        pytest.param(form(upload(b"\r\n--b0undary!" * (MAX_PARTS + 1))), "repeats the boundary", id="false boundaries"),
    ],
)  # fmt: skip
def test_form_out_of_shape_is_refused_with_its_reason(body: bytes, expected: str) -> None:
    assert expected in reason(body)


INNER = form(
    field("model", b"hidden"), upload(AUDIO.replace(b"b0undary", b"b0"), "form-data; name=a"), boundary=b"inner"
)
NESTED = b'Content-Disposition: form-data; name="%b"\r\nContent-Type: multipart/mixed; boundary=inner\r\n\r\n'


def test_form_inside_a_form_is_one_part_whose_parts_count_for_nothing() -> None:
    found = facts(form(NESTED % b"extra" + INNER.replace(b"\xff", b""), field("model", b"m")))
    assert found.values["model"] == "m"
    assert set(found.values) == {"extra", "model"}


def test_form_inside_a_form_that_takes_its_boundary_ends_both_as_in_the_engine() -> None:
    nested = NESTED % b"extra" + form(field("model", b"inner"))
    assert set(facts(form(field("model", b"outer"), nested)).values) == {"model", "extra"}
    assert facts(form(field("model", b"outer"), nested)).values["model"] == "outer"
    twice = NESTED % b"extra" + b"\r\n" + form(field("model", b"inner"))
    assert facts(form(field("model", b"outer"), twice)).values["model"] == "inner"


@pytest.mark.parametrize("size", [1, 7, 1000, STEP_BYTES - 1, STEP_BYTES + 1])
def test_form_in_pieces_is_read_as_one(size: int) -> None:
    body = form(upload(AUDIO * (5 if size < 1000 else 200_000)), field("model", b"m"))
    rope = rope_of(body[at : at + size] for at in range(0, len(body), size))
    reader, steps = FormReader(TYPE, rope), 1
    while (found := reader.step()) is None:
        steps += 1
    assert found == facts(body)
    assert steps <= 2 * (len(body) // STEP_BYTES + 1) + 2


class CountingBytes(bytes):
    """Bytes that count how many of them are searched."""

    searched = 0

    def find(self, wanted: Any, start: Any = 0, end: Any = None, /) -> int:
        found = super().find(wanted, start, end)
        type(self).searched += (min(len(self), end) if found < 0 else found) - start
        return found


@pytest.mark.parametrize("files", [1, 50, MAX_PARTS - 1])
def test_form_is_searched_once(files: int) -> None:
    body = CountingBytes(form(*[upload(b"\r\n-" * (4_000_000 // 3 // files))] * files, field("model", b"m")))
    CountingBytes.searched = 0
    assert form_field(TYPE, body, "model") == "m"
    assert CountingBytes.searched < 1.1 * len(body)


WHOLE = form(upload(AUDIO), field("model", b"m"), field("stream", b"true"))


@pytest.mark.parametrize("length", range(len(WHOLE) - 2))
def test_form_cut_anywhere_before_its_end_is_refused(length: int) -> None:
    assert isinstance(form_fields(TYPE, WHOLE[:length]), Problem)


def test_form_without_the_last_line_break_is_read() -> None:
    assert facts(WHOLE[:-2]).values == {"model": "m", "stream": "true"}


@given(st.binary(max_size=200), st.text(max_size=60))
def test_form_of_any_bytes_never_raises(body: bytes, content_type: str) -> None:
    assert isinstance(form_fields(content_type, body), Problem)
    form_fields(TYPE, body)


@given(st.integers(0, len(WHOLE) - 1), st.binary(max_size=4), st.integers(0, 4))
def test_form_bent_anywhere_never_raises_and_reads_only_what_is_there(at: int, inserted: bytes, removed: int) -> None:
    body = WHOLE[:at] + inserted + WHOLE[at + removed :]
    found = form_fields(TYPE, body)
    if isinstance(found, FormFacts):
        for name, value in found.values.items():
            assert name.encode("utf-8") in body or "\ufffd" in name or '"' in name or "\\" in name
            assert value.encode("utf-8") in body
        for file in found.files:
            assert file.start + file.size <= len(body)


contents = st.binary(max_size=80).filter(lambda content: b"b0undary" not in content)
names = st.text(
    alphabet=st.characters(codec="utf-8", exclude_characters='"\\\x7f', min_codepoint=0x20), min_size=1, max_size=10
)
values = st.text(max_size=30).filter(lambda value: "b0undary" not in value)
parts = st.lists(
    st.tuples(st.just("field"), names, values.map(lambda value: value.encode("utf-8", "ignore")))
    | st.tuples(st.just("file"), st.just("file"), contents),
    max_size=6,
)


@given(parts)
def test_form_of_any_fields_and_files_is_read_as_it_was_written(written: list[tuple[str, str, bytes]]) -> None:
    body = form(*(field(name, content) if kind == "field" else upload(content) for kind, name, content in written))
    found = facts(body)
    last = {name: (kind, content) for kind, name, content in written}
    assert found.values == {name: content.decode() for name, (kind, content) in last.items() if kind == "field"}
    assert [body[file.start : file.start + file.size] for file in found.files] == [
        content for kind, _, content in written if kind == "file"
    ]
