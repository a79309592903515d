"""The end of everything that one caller has stored, beside a service that runs."""

import asyncio
import json
from pathlib import Path

import openai
import pytest

from aibrix_extproc.cli.main import main
from tests.metadata.faults.rig import SHORT_LEASE_SECONDS, planted
from tests.metadata.test_batches import create, ended, line
from tests.waiting import until

pytestmark = pytest.mark.slow


async def test_purge_removes_all_of_one_caller_and_nothing_of_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with planted(tmp_path, lease_seconds=SHORT_LEASE_SECONDS) as plant:
        process = await plant.start()
        alice, bob = process.openai("alice"), process.openai("bob")
        await ended(alice, await create(alice, [line("a")]))
        theirs = await ended(bob, await create(bob, [line("b")]))
        kept = plant.stored() - {blob for (blob,) in plant.rows(
            "SELECT blob FROM file_segments s JOIN files f ON f.id = s.file_id WHERE f.caller = 'alice'"
        )}  # fmt: skip
        upload = await alice.uploads.create(bytes=2, filename="u.txt", mime_type="text/plain", purpose="user_data")
        await alice.uploads.parts.create(upload.id, data=b"x")
        plant.engine.hold.clear()
        running = await create(alice, (line(str(number)) for number in range(300)))
        await until(lambda: plant.engine.running > 0, "requests run")
        arguments = ["metadata", "--data", str(tmp_path), "purge", "--caller", "alice", "--yes"]
        assert await asyncio.to_thread(main, arguments) == 0
        told = json.loads(capsys.readouterr().out)
        assert told == {"caller": "alice", "batches": 2, "uploads": 1, "files": 3}
        await until(lambda: plant.engine.running == 0, "the worker has stopped the batch's requests")
        with pytest.raises(openai.NotFoundError):
            await alice.batches.retrieve(running.id)
        assert [one async for one in alice.files.list()] == []
        for table in ("files", "batches", "uploads", "storage"):
            assert plant.rows(f"SELECT count(*) FROM {table} WHERE caller = 'alice'") == [(0,)]
        for table in ("batch_shards", "batch_inputs", "batch_segments", "upload_parts"):
            assert plant.rows(f"SELECT count(*) FROM {table}") == [(0,)]
        assert plant.stored() == kept
        assert (await bob.batches.retrieve(theirs.id)) == theirs


def test_purge_wants_to_be_told_twice(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["metadata", "--data", str(tmp_path), "purge", "--caller", "alice"])
