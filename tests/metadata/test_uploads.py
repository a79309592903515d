"""The Uploads API through OpenAI's own SDK."""

import asyncio
import hashlib
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI
from openai.types import Upload

from tests.metadata.conftest import Service

LINE = b'{"custom_id":"1"}\n'


async def begin(client: AsyncOpenAI, size: int, **more: Any) -> Upload:
    given: Any = {"filename": "in.jsonl", "mime_type": "application/jsonl", "purpose": "batch", **more}
    return await client.uploads.create(bytes=size, **given)


async def part(client: AsyncOpenAI, upload: Upload, content: bytes) -> str:
    made = await client.uploads.parts.create(upload.id, data=content)
    return str(made.id)


async def test_upl_01_file_in_chunks_is_usable(service: Service) -> None:
    content = LINE * 50_000
    made = await service.openai().uploads.upload_file_chunked(
        file=content, filename="in.jsonl", bytes=len(content), mime_type="application/jsonl", purpose="batch",
        part_size=100_000,
    )  # fmt: skip
    assert made.status == "completed"
    assert made.file is not None
    assert made.file.bytes == len(content)
    assert (await service.openai().files.content(made.file.id)).content == content


async def test_parts_are_joined_in_the_order_of_their_ids_whenever_they_came(service: Service) -> None:
    client = service.openai()
    upload = await begin(client, 6)
    third, first, second = await asyncio.gather(*(part(client, upload, text) for text in (b"ee", b"aa", b"cc")))
    done = await client.uploads.complete(
        upload.id, part_ids=[second, first, third], md5=hashlib.md5(b"ccaaee", usedforsecurity=False).hexdigest()
    )
    assert done.file is not None
    assert (await client.files.content(done.file.id)).content == b"ccaaee"
    again = await client.uploads.complete(upload.id, part_ids=[second, first, third])
    assert again.file is not None
    assert again.file.id == done.file.id
    assert len(service.stored()) == 3


async def test_range_of_a_file_of_parts_crosses_their_borders(service: Service) -> None:
    client = service.openai()
    upload = await begin(client, 9)
    parts = [await part(client, upload, text) for text in (b"012", b"345", b"678")]
    done = await client.uploads.complete(upload.id, part_ids=parts)
    assert done.file is not None
    async with service.http() as http:
        for first, last in ((0, 8), (2, 3), (2, 6), (3, 5), (8, 8)):
            path = f"/v1/files/{done.file.id}/content"
            got = await http.get(path, headers={"range": f"bytes={first}-{last}"})
            assert got.content == b"012345678"[first : last + 1]


async def test_upl_02_parts_that_do_not_fit_are_refused_and_the_upload_goes_on(service: Service) -> None:
    client = service.openai()
    upload, other = await begin(client, 4), await begin(client, 4)
    first, second, foreign = await part(client, upload, b"aa"), await part(client, upload, b"bb"), ""
    foreign = await part(client, other, b"cc")
    bad: list[tuple[list[str], str | None, str]] = [
        ([first], None, "upload_wrong_size"),
        ([first, first], None, "invalid_value"),
        ([first, foreign], None, "unknown_part"),
        ([first, "part_nothing"], None, "unknown_part"),
        ([first, second], "0" * 32, "wrong_md5"),
        ([first, second], "zz", "invalid_value"),
    ]
    for part_ids, md5, code in bad:
        with pytest.raises(openai.BadRequestError) as caught:
            await client.uploads.complete(upload.id, part_ids=part_ids, **({"md5": md5} if md5 else {}))
        assert caught.value.code == code
    assert (await client.uploads.complete(upload.id, part_ids=[first, second])).status == "completed"


async def test_parts_left_out_are_removed_with_the_completion(service: Service) -> None:
    client = service.openai()
    upload = await begin(client, 2)
    wanted, _ = await part(client, upload, b"aa"), await part(client, upload, b"bb")
    await client.uploads.complete(upload.id, part_ids=[wanted])
    assert len(service.stored()) == 1


async def test_cancelled_upload_keeps_nothing_and_takes_nothing(service: Service) -> None:
    client = service.openai()
    upload = await begin(client, 2)
    await part(client, upload, b"aa")
    assert (await client.uploads.cancel(upload.id)).status == "cancelled"
    assert (await client.uploads.cancel(upload.id)).status == "cancelled"
    assert service.stored() == []
    with pytest.raises(openai.BadRequestError, match="cancelled"):
        await part(client, upload, b"aa")
    assert service.stored() == []


async def test_completed_upload_cannot_be_cancelled(service: Service) -> None:
    client = service.openai()
    upload = await begin(client, 2)
    await client.uploads.complete(upload.id, part_ids=[await part(client, upload, b"aa")])
    with pytest.raises(openai.BadRequestError, match="completed"):
        await client.uploads.cancel(upload.id)


async def test_upload_expires_after_an_hour_with_its_parts(service: Service) -> None:
    client = service.openai()
    upload = await begin(client, 2)
    only = await part(client, upload, b"aa")
    service.clock.offset = 3601
    with pytest.raises(openai.BadRequestError, match="expired"):
        await client.uploads.complete(upload.id, part_ids=[only])
    assert (await service.sweeper.sweep()).uploads == 1
    assert service.stored() == []


async def test_foreign_upload_does_not_exist(service: Service) -> None:
    upload = await begin(service.openai("alice"), 2)
    bob = service.openai("bob")
    with pytest.raises(openai.NotFoundError):
        await part(bob, upload, b"aa")
    with pytest.raises(openai.NotFoundError):
        await bob.uploads.cancel(upload.id)


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"size": 0}, "bytes"),
        ({"size": 8 * 1024**3 + 1}, "bytes"),
        ({"size": "2"}, "bytes"),
        ({"size": True}, "bytes"),
        ({"purpose": "bogus"}, "purpose"),
        ({"filename": "in.txt"}, None),
        ({"filename": 7}, "filename"),
        ({"mime_type": None}, "mime_type"),
        ({"expires_after": {"anchor": "created_at", "seconds": 1}}, "expires_after.seconds"),
        ({"expires_after": {"anchor": "never", "seconds": 3600}}, "expires_after.anchor"),
        ({"expires_after": 7}, "expires_after"),
    ],
)
async def test_bad_upload_is_a_400_with_its_param(service: Service, given: dict[str, Any], param: str | None) -> None:
    more = dict(given)
    with pytest.raises(openai.BadRequestError) as caught:
        await begin(service.openai(), more.pop("size", 2), **more)
    assert caught.value.param == param


async def test_part_over_the_size_of_its_upload_is_a_413(service: Service) -> None:
    client = service.openai()
    upload = await begin(client, 2)
    with pytest.raises(openai.APIStatusError) as caught:
        await part(client, upload, b"aaa")
    assert caught.value.status_code == 413
    assert service.stored() == []


async def test_two_completions_at_once_make_one_file(service: Service) -> None:
    client = service.openai()
    upload = await begin(client, 2)
    only = await part(client, upload, b"aa")
    done = await asyncio.gather(*(client.uploads.complete(upload.id, part_ids=[only]) for _ in range(5)))
    assert len({one.file.id for one in done if one.file}) == 1
    assert len([one async for one in client.files.list()]) == 1
