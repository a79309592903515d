"""Rows without their blobs, and blobs without a row."""

import os
from pathlib import Path

import openai
import pytest

from tests.metadata.conftest import Service
from tests.metadata.test_batches import create, ended, line
from tests.waiting import until

DAY = 86_400


def hide(service: Service) -> dict[Path, bytes]:
    """Take every blob away; what there was."""
    contents = {path: path.read_bytes() for path in service.stored()}
    for path in contents:
        path.unlink()
    return contents


async def test_file_whose_content_is_lost_says_so_and_is_whole_again_when_it_comes_back(service: Service) -> None:
    client = service.openai()
    made = [await client.files.create(file=("a.txt", text), purpose="user_data") for text in (b"one", b"two")]
    contents = hide(service)
    with pytest.raises(openai.APIStatusError) as caught:
        await client.files.content(made[0].id)
    assert (caught.value.status_code, caught.value.code) == (410, "file_content_lost")
    assert (await service.sweeper.sweep()).lost == 2
    assert (await service.sweeper.sweep()).lost == 0
    found = await client.files.retrieve(made[0].id)
    assert found.status == "error"
    assert "upload it again" in (found.status_details or "")
    for path, content in contents.items():
        path.write_bytes(content)
    await service.sweeper.sweep()
    assert [one.status async for one in client.files.list()] == ["processed"] * 2
    assert (await client.files.content(made[0].id)).content == b"one"


async def test_lost_file_can_be_deleted(service: Service) -> None:
    client = service.openai()
    made = await client.files.create(file=("a.txt", b"x"), purpose="user_data")
    hide(service)
    await service.sweeper.sweep()
    assert (await client.files.delete(made.id)).deleted
    assert [one async for one in client.files.list()] == []


async def test_blob_without_a_row_goes_when_it_is_old_and_not_before(service: Service) -> None:
    client = service.openai()
    made = await client.files.create(file=("a.txt", b"x"), purpose="user_data")
    (kept,) = service.stored()
    orphan = kept.with_name("orphan")
    orphan.write_bytes(b"y")
    assert (await service.sweeper.sweep()).orphans == 0
    old = service.clock() - 3601
    for path in (kept, orphan):
        os.utime(path, (old, old))
    assert (await service.sweeper.sweep()).orphans == 1
    assert service.stored() == [kept]
    assert (await client.files.content(made.id)).content == b"x"


async def test_batch_on_a_lost_file_fails_at_once(service: Service) -> None:
    client = service.openai()
    file = await client.files.create(file=("in.jsonl", line("a").encode()), purpose="batch")
    hide(service)
    made = await client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    done = await ended(client, made)
    assert done.status == "failed"
    assert done.errors is not None
    assert [(one.code, one.param) for one in done.errors.data or []] == [("invalid_request", "input_file_id")]


async def test_batch_whose_content_is_lost_while_it_runs_ends_with_its_window(service: Service) -> None:
    """Until then the store might come back; afterwards nobody waits for ever."""
    client = service.openai()
    service.engine.hold.clear()
    made = await create(client, (line(str(number)) for number in range(2000)))
    await until(lambda: service.engine.running > 0, "requests run")
    hide(service)
    service.clock.offset = DAY + 1
    service.engine.hold.set()
    done = await ended(client, made)
    assert done.status == "failed"
    assert done.failed_at is not None
    assert done.errors is not None
    assert "lost" in ((done.errors.data or [])[0].message or "")
