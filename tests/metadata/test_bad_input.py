"""What clients get wrong on purpose: each is an error of OpenAI's shape, and nothing is left behind.

One service answers a whole table: starting one takes longer than most rows.
"""

import gzip
import json
import zlib
from typing import Any

import httpx2
import openai
import pytest

from tests.metadata.conftest import Service
from tests.metadata.test_batches import URL, create, ended, line

FORM = {"content-type": "multipart/form-data; boundary=b"}
JSON = {"content-type": "application/json"}
HOUR = 3600


def expect_refusal(name: str, answer: httpx2.Response, *statuses: int) -> None:
    assert answer.status_code in statuses, (name, answer.text)
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}, name
    assert "Traceback" not in answer.text, name
    assert answer.headers["x-request-id"], name


def part(head: bytes, content: bytes = b"x") -> bytes:
    return b"--b\r\ncontent-disposition: form-data; " + head + b"\r\n\r\n" + content + b"\r\n"


FILE = part(b'name="file"; filename="a.txt"')
PURPOSE = part(b'name="purpose"', b"user_data")
END = b"--b--\r\n"


FORMS = {
    "no file": PURPOSE + END,
    "two files": FILE + FILE + PURPOSE + END,
    "no end": FILE + PURPOSE,
    "10,000 parts": FILE + part(b'name="x"') * 10_000 + PURPOSE + END,
    "file name of 10 KB": part(b'name="file"; filename="' + b"n" * 10_240 + b'"') + PURPOSE + END,
    "field name of 10 KB": part(b'name="' + b"n" * 10_240 + b'"') + FILE + PURPOSE + END,
    "not UTF-8": FILE + part(b'name="purpose"', b"\xff") + END,
    "NUL": FILE + part(b'name="purpose"', b"user_data\0") + END,
    "huge number": FILE + PURPOSE + part(b'name="expires_after[seconds]"', b"9" * 12_000) + END,
}


async def test_form_is_refused_and_nothing_is_stored(service: Service) -> None:
    async with service.http() as http:
        for name, body in FORMS.items():
            expect_refusal(name, await http.post("/v1/files", content=body, headers=FORM), 400)
            assert service.stored() == [], name


async def test_compressed_body_is_refused_before_it_is_read(service: Service) -> None:
    """A small one may be a large file; the SDKs never compress."""
    whole = FILE + PURPOSE + END
    bodies = {"gzip": gzip.compress(whole), "deflate": zlib.compress(whole), "GZip": whole, "gzip, identity": whole}
    async with service.http() as http:
        for encoding, body in bodies.items():
            answer = await http.post("/v1/files", content=body, headers=FORM | {"content-encoding": encoding})
            expect_refusal(encoding, answer, 415)
            assert answer.json()["error"]["code"] == "unsupported_content_encoding"
            assert service.stored() == []
        assert (await http.post("/v1/files", content=whole, headers=FORM | {"content-encoding": "identity"})).is_success


async def test_long_headers_and_urls_are_read_as_far_as_envoy_sends_them(service: Service) -> None:
    async with service.http() as http:
        assert (await http.get("/v1/files", headers={"x-long": "a" * 60_000})).is_success
        assert (await http.get("/v1/files", headers={f"x-{number}": "a" for number in range(100)})).is_success
        assert (await http.get("/v1/files", params={"x": "a" * 60_000})).is_success
        expect_refusal("order", await http.get("/v1/files", params={"order": "a" * 60_000}), 400)
        expect_refusal("after", await http.get("/v1/files", params={"after": "a" * 60_000}), 400, 404)


NAMES = {
    "../../etc/passwd": "passwd",
    "C:\\\\temp\\\\a.txt": "a.txt",
    "a\x01\x7fb.txt": "ab.txt",
    "..": "..",
    "": "upload",
    "x/": "upload",
    "\u202egpj.exe": "gpj.exe",
    "n" * 5000: "n" * 255,
}


async def test_name_of_a_file_is_never_a_path_and_can_be_sent_back(service: Service) -> None:
    async with service.http() as http:
        for given, kept in NAMES.items():
            body = part(f'name="file"; filename="{given}"'.encode()) + PURPOSE + END
            made = await http.post("/v1/files", content=body, headers=FORM)
            assert made.status_code == 200, made.text
            assert made.json()["filename"] == kept
            assert (await http.get(f"/v1/files/{made.json()['id']}/content")).content == b"x"
    stored = service.stored()
    assert len(stored) == len(NAMES)
    assert not {path.name for path in stored} & set(NAMES.values())


IDS = (
    "a.b",
    "..",
    "%2e%2e",
    "..%2f..%2fledger.sqlite",
    "file-a%2fb",
    "file-%00",
    "file-%0d%0aa",
    "file-%c3%a9",
    "file-'--",
)


PATHS = (
    ("GET", "/v1/files/{}"),
    ("GET", "/v1/files/{}/content"),
    ("DELETE", "/v1/files/{}"),
    ("POST", "/v1/uploads/{}/cancel"),
    ("GET", "/v1/batches/{}"),
    ("POST", "/v1/batches/{}/cancel"),
)


async def test_id_of_another_form_is_a_404_everywhere(service: Service) -> None:
    async with service.http() as http:
        for bad in IDS:
            for method, path in PATHS:
                url = httpx2.URL(service.base_url).copy_with(raw_path=path.format(bad).encode())
                expect_refusal(f"{method} {url}", await http.request(method, url), 404, 405)


NESTED = "[" * 100_000 + "]" * 100_000
METADATA: dict[str, tuple[str, int]] = {
    "nested": (NESTED, 400),
    "nested value": (f'{{"k":{NESTED}}}', 400),
    "over a megabyte": (json.dumps({"k": "v" * 1_100_000}), 413),
    "many keys": (json.dumps({str(number): "v" for number in range(50_000)}), 400),
    "number": ('{"k":1}', 400),
    "lone surrogate": ('{"k":"\\ud800"}', 400),
    "lone surrogate as key": ('{"\\ud800":"v"}', 400),
}


async def test_metadata_bomb_is_refused(service: Service) -> None:
    file = await service.openai().files.create(file=("in.jsonl", line("a").encode()), purpose="batch")
    head = f'{{"input_file_id":"{file.id}","endpoint":"{URL}","completion_window":"24h","metadata":'
    async with service.http() as http:
        for name, (metadata, status) in METADATA.items():
            body = f"{head}{metadata}}}".encode()
            expect_refusal(name, await http.post("/v1/batches", content=body, headers=JSON), status)
    assert [one async for one in service.openai().batches.list()] == []


async def test_metadata_of_any_other_characters_comes_back_as_it_was(service: Service) -> None:
    metadata = {"nul": "a\0b", "quote": "\"'\\", "emoji": "\U0001f600", "": ""}
    made = await create(service.openai(), [line("a")], metadata=metadata)
    assert (await service.openai().batches.retrieve(made.id)).metadata == metadata


async def test_upload_with_a_text_that_no_database_takes_never_fails_inside(service: Service) -> None:
    async with service.http() as http:
        for field in ("filename", "mime_type", "purpose"):
            for text in ("a\\u0000.jsonl", "\\ud800.jsonl"):
                fields = {"bytes": 2, "filename": "in.jsonl", "mime_type": "text/plain", "purpose": "batch"}
                body = json.dumps(fields | {field: "TEXT"}).replace("TEXT", text)
                answer = await http.post("/v1/uploads", content=body, headers=JSON)
                assert answer.status_code in (200, 400), (field, text, answer.text)


async def test_batch_on_an_id_that_cannot_be_fails_as_on_any_unknown_one(service: Service) -> None:
    for text in ("file-a\\u0000", "\\ud800", "../x"):
        body = f'{{"input_file_id":"{text}","endpoint":"{URL}","completion_window":"24h"}}'
        async with service.http() as http:
            made = await http.post("/v1/batches", content=body.encode(), headers=JSON)
        assert made.status_code == 200, made.text
        done = await service.openai().batches.retrieve(made.json()["id"])
        assert [one.code for one in (done.errors.data if done.errors else None) or []] == ["invalid_request"]


async def test_batch_of_batches_is_refused_as_endpoint_as_line_and_as_input(service: Service) -> None:
    client = service.openai()
    with pytest.raises(openai.BadRequestError) as caught:
        await create(client, [line("a")], endpoint="/v1/batches")
    assert (caught.value.param, caught.value.code) == ("endpoint", "invalid_value")
    failed = await ended(client, await create(client, [line("a").replace(URL, "/v1/batches")]))
    assert [(one.code, one.param) for one in (failed.errors.data if failed.errors else None) or []] == [
        ("invalid_url", "url")
    ]
    done = await ended(client, await create(client, [line("a")]))
    given: Any = {"input_file_id": done.output_file_id, "endpoint": URL, "completion_window": "24h"}
    with pytest.raises(openai.BadRequestError) as caught:
        await client.batches.create(**given)
    assert caught.value.param == "input_file_id"


async def test_foreign_and_expired_input_is_as_good_as_none(service: Service) -> None:
    alice, bob = service.openai("alice"), service.openai("bob")
    life: Any = {"anchor": "created_at", "seconds": HOUR}
    file = await alice.files.create(file=("in.jsonl", line("a").encode()), purpose="batch", expires_after=life)
    given: Any = {"input_file_id": file.id, "endpoint": URL, "completion_window": "24h"}
    foreign = await ended(bob, await bob.batches.create(**given))
    service.clock.offset = HOUR + 1
    expired = await ended(alice, await alice.batches.create(**given))
    for one in (foreign, expired):
        assert one.status == "failed"
        assert [(each.code, each.param) for each in (one.errors.data if one.errors else None) or []] == [
            ("invalid_request", "file_id")
        ]
    assert not service.engine.asked
