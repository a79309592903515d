"""The Files API through OpenAI's own SDK."""

import asyncio

import httpx2
import openai
import pytest

from tests.metadata.conftest import Service

LINE = b'{"custom_id":"1"}\n'
DAY = 86_400


async def test_file_01_created_file_has_its_exact_size_and_expires_after_30_days(service: Service) -> None:
    made = await service.openai().files.create(file=("in.jsonl", LINE), purpose="batch")
    assert made.id.startswith("file-")
    assert (made.bytes, made.filename, made.purpose, made.status) == (len(LINE), "in.jsonl", "batch", "processed")
    assert made.expires_at == made.created_at + 30 * DAY


@pytest.mark.parametrize(("seconds", "good"), [(3599, False), (3600, True), (30 * DAY, True), (30 * DAY + 1, False)])
async def test_file_03_time_to_live_has_bounds(service: Service, seconds: int, good: bool) -> None:
    life = {"anchor": "created_at", "seconds": seconds}
    create = service.openai().files.create(file=("a.txt", b"x"), purpose="user_data", expires_after=life)
    if good:
        made = await create
        assert made.expires_at == made.created_at + seconds
        return
    with pytest.raises(openai.BadRequestError) as caught:
        await create
    assert caught.value.param == "expires_after.seconds"
    assert service.stored() == []


@pytest.mark.parametrize("purpose", ["bogus", "batch_output", ""])
async def test_file_04_purpose_must_be_one_that_clients_may_use(service: Service, purpose: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await service.openai().files.create(file=("a.txt", b"x"), purpose=purpose)
    assert caught.value.param == "purpose"
    assert service.stored() == []


async def test_file_05_batch_file_must_be_jsonl(service: Service) -> None:
    with pytest.raises(openai.BadRequestError, match=r"Must be \.jsonl"):
        await service.openai().files.create(file=("a.txt", LINE), purpose="batch")


async def test_file_06_file_over_the_limit_is_refused_and_leaves_nothing(service: Service) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        await service.openai().files.create(file=("a.bin", b"x" * (8 * 1024 * 1024 + 1)), purpose="user_data")
    assert caught.value.status_code == 413
    assert service.stored() == []


async def test_file_08_unknown_file_is_a_404(service: Service) -> None:
    for file_id in ("file-abc", "nothing", "file-" + "x" * 300, "..%2f..%2fledger"):
        with pytest.raises(openai.NotFoundError) as caught:
            await service.openai().files.retrieve(file_id)
        assert "stack" not in str(caught.value)


async def test_file_09_list_pages_by_themselves_newest_first(service: Service) -> None:
    client = service.openai()
    made = [(await client.files.create(file=(f"{n}.txt", b"x"), purpose="user_data")).id for n in range(5)]
    listed = [one.id async for one in client.files.list(limit=2)]
    assert sorted(listed) == sorted(made)
    ascending = [one.id async for one in client.files.list(limit=2, order="asc")]
    assert ascending == listed[::-1]


async def test_file_10_list_filters_by_purpose_and_refuses_an_unknown_cursor(service: Service) -> None:
    client = service.openai()
    await client.files.create(file=("a.jsonl", LINE), purpose="batch")
    await client.files.create(file=("a.txt", b"x"), purpose="user_data")
    assert [one.purpose async for one in client.files.list(purpose="batch")] == ["batch"]
    with pytest.raises(openai.NotFoundError):
        await client.files.list(after="file-nothing")


@pytest.mark.parametrize("limit", ["0", "10001", "abc", "-1", "1e3", "9" * 400])
async def test_file_11_bad_limit_is_a_400(service: Service, limit: str) -> None:
    async with service.http() as http:
        answer = await http.get("/v1/files", params={"limit": limit})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "limit"


async def test_file_12_content_is_the_same_bytes_under_the_same_name(service: Service) -> None:
    client, content = service.openai(), bytes(range(256)) * 5000
    made = await client.files.create(file=('日本 "x".bin', content), purpose="user_data")
    got = await client.files.content(made.id)
    assert got.content == content
    disposition = got.response.headers["content-disposition"]
    assert "filename*=UTF-8''%E6%97%A5%E6%9C%AC" in disposition
    async with client.files.with_streaming_response.content(made.id) as streamed:
        assert b"".join([piece async for piece in streamed.iter_bytes()]) == content


@pytest.mark.parametrize(
    ("header", "status", "expected", "content_range"),
    [
        ("bytes=0-0", 206, b"0", "bytes 0-0/10"),
        ("bytes=-3", 206, b"789", "bytes 7-9/10"),
        ("bytes=8-99", 206, b"89", "bytes 8-9/10"),
        ("bytes=4-", 206, b"456789", "bytes 4-9/10"),
        ("bytes=10-", 416, None, "bytes */10"),
        ("bytes=-0", 416, None, "bytes */10"),
        ("bytes=5-4", 200, b"0123456789", None),
        ("bytes=0-1,3-4", 200, b"0123456789", None),
        ("lines=0-1", 200, b"0123456789", None),
    ],
)
async def test_content_range(
    service: Service, header: str, status: int, expected: bytes | None, content_range: str | None
) -> None:
    made = await service.openai().files.create(file=("a.bin", b"0123456789"), purpose="user_data")
    async with service.http() as http:
        answer = await http.get(f"/v1/files/{made.id}/content", headers={"range": header})
    assert (answer.status_code, answer.headers.get("content-range")) == (status, content_range)
    if expected is not None:
        assert answer.content == expected


async def test_range_of_another_content_is_answered_by_the_whole(service: Service) -> None:
    made = await service.openai().files.create(file=("a.bin", b"0123456789"), purpose="user_data")
    async with service.http() as http:
        for if_range, content in ((None, b"01"), ('"other"', b"0123456789")):
            headers = {"range": "bytes=0-1"} | ({"if-range": if_range} if if_range else {})
            answer = await http.get(f"/v1/files/{made.id}/content", headers=headers)
            assert answer.content == content
        whole = await http.get(f"/v1/files/{made.id}/content", headers=headers)
        again = {"range": "bytes=0-1", "if-range": whole.headers["etag"]}
        assert (await http.get(f"/v1/files/{made.id}/content", headers=again)).status_code == 206


async def test_file_13_deleted_file_is_gone_with_its_content(service: Service) -> None:
    client = service.openai()
    made = await client.files.create(file=("a.txt", b"x"), purpose="user_data")
    assert (await client.files.delete(made.id)).deleted
    assert service.stored() == []
    with pytest.raises(openai.NotFoundError):
        await client.files.content(made.id)


async def test_file_15_expired_file_is_gone_at_once_and_its_content_with_the_next_sweep(service: Service) -> None:
    client = service.openai()
    life = {"anchor": "created_at", "seconds": 3600}
    made = await client.files.create(file=("a.txt", b"x"), purpose="user_data", expires_after=life)
    service.clock.offset = 3601
    with pytest.raises(openai.NotFoundError):
        await client.files.retrieve(made.id)
    assert [one async for one in client.files.list()] == []
    assert (await service.sweeper.sweep()).files == 1
    assert service.stored() == []


async def test_file_16_upload_that_breaks_off_leaves_nothing(service: Service) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(service.base_url.rpartition(":")[2]))
    request = httpx2.Request("POST", f"{service.base_url}/v1/files")
    await service.signing("alice")(request)  # type: ignore[misc]
    signed = request.headers["x-aibrix-signed-caller"]
    head = (
        f"POST /v1/files HTTP/1.1\r\nhost: x\r\nx-aibrix-signed-caller: {signed}\r\ncontent-length: 1000000\r\n"
        "content-type: multipart/form-data; boundary=b\r\n\r\n"
        '--b\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\n'
    )
    writer.write(head.encode() + b"x" * 500_000)
    await writer.drain()
    writer.close()
    await asyncio.wait_for(service.answered.wait(), 60)
    del reader
    assert service.stored() == []
    assert [one async for one in service.openai().files.list()] == []


async def test_file_17_empty_file_is_refused(service: Service) -> None:
    with pytest.raises(openai.BadRequestError):
        await service.openai().files.create(file=("a.jsonl", b""), purpose="batch")
    assert service.stored() == []


async def test_caller_does_not_see_what_others_have(service: Service) -> None:
    made = await service.openai("alice").files.create(file=("a.txt", b"x"), purpose="user_data")
    bob = service.openai("bob")
    for ask in (bob.files.retrieve, bob.files.delete, bob.files.content):
        with pytest.raises(openai.NotFoundError):
            await ask(made.id)
    assert [one async for one in bob.files.list()] == []
    with pytest.raises(openai.NotFoundError):
        await bob.files.list(after=made.id)


async def test_quota_of_files_and_bytes_is_kept_and_given_back(service: Service) -> None:
    client, content = service.openai(), b"x" * (8 * 1024 * 1024)
    made = [await client.files.create(file=("a.bin", content), purpose="user_data") for _ in range(8)]
    with pytest.raises(openai.BadRequestError) as caught:
        await client.files.create(file=("a.bin", b"x"), purpose="user_data")
    assert caught.value.code == "storage_quota_exceeded"
    await client.files.delete(made[0].id)
    await client.files.create(file=("a.bin", b"x"), purpose="user_data")
    await service.openai("bob").files.create(file=("a.bin", b"x"), purpose="user_data")


@pytest.mark.parametrize("header", [None, "", "x.y", "e30.e30", "." * 3000])
async def test_request_that_no_gateway_signed_is_a_401_that_tells_nothing(service: Service, header: str | None) -> None:
    async with httpx2.AsyncClient(base_url=service.base_url, verify=False) as http:
        headers = {} if header is None else {"x-aibrix-signed-caller": header}
        answer = await http.get("/v1/files", headers=headers)
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] is None


async def test_signature_for_another_operation_or_past_its_time_is_a_401(service: Service) -> None:
    request = httpx2.Request("GET", f"{service.base_url}/v1/files")
    await service.signing("alice")(request)  # type: ignore[misc]
    async with httpx2.AsyncClient(verify=False) as http:
        assert (await http.send(request)).status_code == 200
        other = httpx2.Request("GET", f"{service.base_url}/v1/files/file-a", headers=request.headers)
        assert (await http.send(other)).status_code == 401
        service.clock.offset = 61
        assert (await http.send(request)).status_code == 401


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--b--\r\n",
        b"--b\r\n",
        b'--b\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nuser_data\r\n--b--\r\n',
        b'--b\r\ncontent-disposition: form-data; name="file"\r\n\r\nx\r\n--b--\r\n',
        b'--b\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\nx\r\n'
        b'--b\r\ncontent-disposition: form-data; name="file"; filename="b"\r\n\r\ny\r\n--b--\r\n',
        b'--b\r\ncontent-disposition: form-data; name="x"\r\n\r\n\r\n' * 40 + b"--b--\r\n",
        b'--b\r\ncontent-disposition: form-data; name="purpose"\r\n\r\n' + b"x" * 20_000 + b"\r\n--b--\r\n",
        b"--b\r\n" + b"x-a: y\r\n" * 20 + b"\r\n\r\n--b--\r\n",
    ],
)
async def test_form_out_of_shape_is_a_400_and_leaves_nothing(service: Service, body: bytes) -> None:
    async with service.http() as http:
        answer = await http.post("/v1/files", content=body, headers={"content-type": "multipart/form-data; boundary=b"})
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["message"]
    assert service.stored() == []


async def test_purpose_may_come_after_the_file_and_boundary_like_bytes_are_content(service: Service) -> None:
    content = b"\r\n--bb\r\n--b \r\n-\r\n--"
    body = (
        (
            b'--b\r\ncontent-disposition: form-data; name="file"; filename="a/../..\\evil\x01.txt"\r\n\r\n'
            + content
            + b'\r\n--b\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nuser_data\r\n--b--\r\n'
        )
        .replace(b"\r\n--b ", b"\r\n--c ")
        .replace(b"--bb", b"--cb")
    )
    async with service.http() as http:
        made = await http.post("/v1/files", content=body, headers={"content-type": "multipart/form-data; boundary=b"})
        assert made.status_code == 200, made.text
        assert made.json()["filename"] == "evil.txt"
        got = await http.get(f"/v1/files/{made.json()['id']}/content")
    assert got.content == content.replace(b"\r\n--b ", b"\r\n--c ").replace(b"--bb", b"--cb")


async def test_orphans_are_swept_and_referenced_blobs_stay(service: Service) -> None:
    made = await service.openai().files.create(file=("a.txt", b"x"), purpose="user_data")
    await service.blobs.put_bytes("files/zz/orphan", b"y")
    service.clock.offset = 7200
    assert (await service.sweeper.sweep()).orphans == 1
    assert (await service.openai().files.content(made.id)).content == b"x"
