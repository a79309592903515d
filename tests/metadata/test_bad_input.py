"""What clients get wrong on purpose: each is an error of OpenAI's shape, and nothing is left behind."""

import json
from typing import Any

import httpx2
import openai
import pytest

from tests.metadata.conftest import Service
from tests.metadata.test_batches import URL, create, ended, line

FORM = {"content-type": "multipart/form-data; boundary=b"}
JSON = {"content-type": "application/json"}
HOUR = 3600


def expect_refusal(answer: httpx2.Response, *statuses: int) -> dict[str, Any]:
    assert answer.status_code in statuses, answer.text
    error: dict[str, Any] = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert "Traceback" not in answer.text
    assert answer.headers["x-request-id"]
    return error


def part(head: bytes, content: bytes = b"x") -> bytes:
    return b"--b\r\ncontent-disposition: form-data; " + head + b"\r\n\r\n" + content + b"\r\n"


FILE = part(b'name="file"; filename="a.txt"')
PURPOSE = part(b'name="purpose"', b"user_data")
END = b"--b--\r\n"


@pytest.mark.parametrize(
    "body",
    [
        PURPOSE + END,
        FILE + FILE + PURPOSE + END,
        FILE + PURPOSE,
        FILE + part(b'name="x"') * 10_000 + PURPOSE + END,
        part(b'name="file"; filename="' + b"n" * 10_240 + b'"') + PURPOSE + END,
        part(b'name="' + b"n" * 10_240 + b'"') + FILE + PURPOSE + END,
        FILE + part(b'name="purpose"', b"\xff") + END,
        FILE + part(b'name="purpose"', b"user_data\0") + END,
        FILE + PURPOSE + part(b'name="expires_after[seconds]"', b"9" * 12_000) + END,
    ],
    ids=["no file", "two files", "no end", "10,000 parts", "file name of 10 KB", "field name of 10 KB", "not UTF-8",
         "NUL", "huge number"],
)  # fmt: skip
async def test_form_is_refused_and_nothing_is_stored(service: Service, body: bytes) -> None:
    async with service.http() as http:
        expect_refusal(await http.post("/v1/files", content=body, headers=FORM), 400)
    assert service.stored() == []


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\\\temp\\\\a.txt", "a.txt"),
        ("a\x01\x7fb.txt", "ab.txt"),
        ("..", ".."),
        ("", "upload"),
        ("x/", "upload"),
        ("\u202egpj.exe", "gpj.exe"),
        ("n" * 5000, "n" * 255),
    ],
)
async def test_name_of_a_file_is_never_a_path_and_can_be_sent_back(service: Service, given: str, kept: str) -> None:
    body = part(f'name="file"; filename="{given}"'.encode()) + PURPOSE + END
    async with service.http() as http:
        made = await http.post("/v1/files", content=body, headers=FORM)
        assert made.status_code == 200, made.text
        assert made.json()["filename"] == kept
        assert (await http.get(f"/v1/files/{made.json()['id']}/content")).content == b"x"
    assert all(path.is_relative_to(service.folder) and kept not in path.name for path in service.stored())


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


@pytest.mark.parametrize("bad", IDS)
async def test_id_of_another_form_is_a_404_everywhere(service: Service, bad: str) -> None:
    async with service.http() as http:
        for method, path in (
            ("GET", f"/v1/files/{bad}"),
            ("GET", f"/v1/files/{bad}/content"),
            ("DELETE", f"/v1/files/{bad}"),
            ("POST", f"/v1/uploads/{bad}/cancel"),
            ("GET", f"/v1/batches/{bad}"),
            ("POST", f"/v1/batches/{bad}/cancel"),
        ):
            url = httpx2.URL(service.base_url).copy_with(raw_path=path.encode())
            expect_refusal(await http.request(method, url), 404, 405)


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


@pytest.mark.parametrize("name", METADATA)
async def test_metadata_bomb_is_refused(service: Service, name: str) -> None:
    metadata, status = METADATA[name]
    file = await service.openai().files.create(file=("in.jsonl", line("a").encode()), purpose="batch")
    body = f'{{"input_file_id":"{file.id}","endpoint":"{URL}","completion_window":"24h","metadata":{metadata}}}'
    async with service.http() as http:
        expect_refusal(await http.post("/v1/batches", content=body.encode(), headers=JSON), status)
    assert [one async for one in service.openai().batches.list()] == []


async def test_metadata_of_any_other_characters_comes_back_as_it_was(service: Service) -> None:
    metadata = {"nul": "a\0b", "quote": "\"'\\", "emoji": "\U0001f600", "": ""}
    made = await create(service.openai(), [line("a")], metadata=metadata)
    assert (await service.openai().batches.retrieve(made.id)).metadata == metadata


@pytest.mark.parametrize("field", ["filename", "mime_type", "purpose"])
@pytest.mark.parametrize("text", ["a\\u0000.jsonl", "\\ud800.jsonl"], ids=["NUL", "lone surrogate"])
async def test_upload_with_a_text_that_no_database_takes_never_fails_inside(
    service: Service, field: str, text: str
) -> None:
    fields = {"bytes": 2, "filename": "in.jsonl", "mime_type": "text/plain", "purpose": "batch", field: "TEXT"}
    async with service.http() as http:
        answer = await http.post("/v1/uploads", content=json.dumps(fields).replace("TEXT", text), headers=JSON)
    assert answer.status_code in (200, 400), answer.text


@pytest.mark.parametrize("text", ["file-a\\u0000", "\\ud800", "../x"], ids=["NUL", "lone surrogate", "path"])
async def test_batch_on_an_id_that_cannot_be_fails_as_on_any_unknown_one(service: Service, text: str) -> None:
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
