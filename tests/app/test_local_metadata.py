"""Files and batches through a real Envoy, a real gateway and simulated engines, as `local` starts them."""

import asyncio
import contextlib
import io
import json
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import openai
import pytest

from aibrix_extproc.adapters.keyfile.source import read_keys
from aibrix_extproc.cli.main import main
from aibrix_extproc.core.access.signed_caller import SignedCaller, sign
from aibrix_extproc.core.openai.contract.headers import ON_BEHALF, SIGNED_CALLER
from tests import warm
from tests.app.test_local import DEADLINE, RunningLocal, local
from tests.waiting import until

pytestmark = [pytest.mark.envoy, pytest.mark.slow]
URL = "/v1/chat/completions"
KEYS = ("--api-key", "sk-alice", "--api-key", "sk-bob")


def lines(number: int, model: str = "sim-chat") -> bytes:
    def one(which: int) -> dict[str, Any]:
        body = {"model": model, "messages": [{"role": "user", "content": f"Hello {which}"}], "max_tokens": 4}
        return {"custom_id": str(which), "method": "POST", "url": URL, "body": body}

    return "\n".join(json.dumps(one(which)) for which in range(number)).encode()


async def run_batch(client: openai.AsyncOpenAI, content: bytes) -> openai.types.Batch:
    file = await client.files.create(file=("in.jsonl", content), purpose="batch")
    batch = await client.batches.create(input_file_id=file.id, endpoint=URL, completion_window="24h")
    return await ended(lambda: client.batches.retrieve(batch.id))


async def ended(ask: Callable[[], Awaitable[openai.types.Batch]]) -> openai.types.Batch:
    async def has_ended() -> bool:
        return (await ask()).status in ("completed", "failed", "expired", "cancelled")

    await until(has_ended, "the batch has ended")
    return await ask()


async def test_batch_runs_through_envoy_for_its_owner_and_nobody_else_sees_it(tmp_path: Path) -> None:
    async with local("--engines", "1", "--data", str(tmp_path / "data"), *KEYS) as running:
        await running.ready()
        async with running.client("sk-alice") as alice, running.client("sk-bob") as bob:
            done = await run_batch(alice, lines(20))
            assert done.request_counts is not None
            assert (done.status, done.request_counts.completed) == ("completed", 20)
            found = (await alice.files.content(done.output_file_id or "")).text.splitlines()
            assert [json.loads(one)["custom_id"] for one in found] == [str(number) for number in range(20)]
            assert all(json.loads(one)["response"]["request_id"] for one in found)
            for ask in (bob.batches.retrieve(done.id), bob.files.retrieve(done.input_file_id)):
                with pytest.raises(openai.NotFoundError):
                    await ask
            unknown = await run_batch(alice, lines(1, "nope"))
            assert unknown.errors is not None
            assert [one.code for one in unknown.errors.data or []] == ["model_not_found"]
            await big_file_passes(alice, running)
            await forgeries_are_refused(running, alice)
        await command_line_runs_a_batch(running, tmp_path)
        await command_line_keeps_files(running, tmp_path / "files")
        await conformance_passes_and_leaves_nothing(running, tmp_path)


def new_key(file: Path) -> str:
    """One more key of one caller."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert main(["keys", "new", "--file", str(file), "--caller", "alice"]) == 0
    return printed.getvalue().strip()


async def batch_goes_on_without_the_key_that_made_it(
    client: openai.AsyncOpenAI, other: openai.AsyncOpenAI, keys: Path
) -> None:
    """The key is revoked while lines run; the caller has another one, who owns what the first has made."""
    file = await client.files.create(file=("in.jsonl", lines(20)), purpose="batch")
    batch = await client.batches.create(input_file_id=file.id, endpoint=URL, completion_window="24h")
    (holder,) = read_keys(keys)
    assert main(["keys", "revoke", "--file", str(keys), holder.keys[0].id]) == 0

    async def refused() -> bool:
        try:
            await client.files.list()
        except openai.AuthenticationError:
            return True
        return False

    await until(refused, "the key is refused")
    assert (await other.batches.retrieve(batch.id)).status in ("validating", "in_progress")
    done = await ended(lambda: other.batches.retrieve(batch.id))
    assert done.request_counts is not None
    assert (done.status, done.request_counts.completed) == ("completed", 20)


async def big_file_passes(client: openai.AsyncOpenAI, running: RunningLocal) -> None:
    """Larger than the gateway takes a body: it never sees this one, and may be slow to look at its head."""
    content = bytes(range(256)) * (60 * 4096)
    for _ in range(20):  # each thread of Envoy has its connection to the gateway
        await client.files.list(limit=1)
    stopped = gateway_of(running)
    os.kill(stopped, signal.SIGSTOP)
    sending = asyncio.create_task(client.files.create(file=("big.bin", content), purpose="user_data"))
    try:
        await asyncio.wait([sending], timeout=0.5)
    finally:
        os.kill(stopped, signal.SIGCONT)
    made = await sending
    assert (await client.files.content(made.id)).content == content


def gateway_of(running: RunningLocal) -> int:
    """The pid of its gateway."""
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (place / "cmdline").read_bytes().split(b"\0")
            parent = int((place / "stat").read_text().rpartition(") ")[2].split()[1])
            if parent == running.process.pid and b"serve" in words:
                return int(place.name)
    raise AssertionError("no gateway")


async def command_line_runs_a_batch(running: RunningLocal, folder: Path) -> None:
    (folder / "in.jsonl").write_bytes(lines(5))
    (folder / "bad.jsonl").write_bytes(lines(2) + b"\n{bad")
    (folder / "key").write_text("sk-alice")
    options = ("--base-url", running.value("Base URL"), "--api-key-file", str(folder / "key"))
    code, out, err = await command("batch", "run", str(folder / "in.jsonl"), *options, "--json", folder=folder)
    assert code == 0, err
    done = json.loads(out)
    assert len((folder / f"{done['id']}_output.jsonl").read_text().splitlines()) == 5
    assert "completed: 5 of 5" in err
    code, _, err = await command("batch", "run", str(folder / "bad.jsonl"), *options, folder=folder)
    assert (code, "line 3: " in err) == (1, True), err
    code, out, _ = await command("batch", "list", *options, folder=folder)
    assert code == 0
    assert done["id"] in out
    code, _, err = await command("batch", "cancel", done["id"], *options, folder=folder)
    assert (code, "Cannot cancel" in err) == (1, True), err
    assert not [name for name in os.listdir(folder) if name.endswith(".part")]


async def command_line_keeps_files(running: RunningLocal, folder: Path) -> None:
    """One file in one request, one in parts; both come back the same, and each mistake has its exit code."""
    os.mkdir(folder)
    contents = {"in.jsonl": lines(1), "large.bin": bytes(range(256)) * (65 * 4096)}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    options = ("--base-url", running.value("Base URL"), "--api-key-file", str(folder.parent / "key"))

    async def files(*words: str) -> tuple[int | None, str, str]:
        return await command("files", *words, *options, folder=folder)

    code, out, err = await files("upload", *contents, "--expires-after", "3600", "--json")
    assert code == 0, err
    made = json.loads(out)
    assert [one["purpose"] for one in made] == ["batch", "user_data"]
    assert [one["expires_at"] - one["created_at"] for one in made] == [3600, 3600]
    ids = [one["id"] for one in made]
    code, out, _ = await files("list", "--purpose", "user_data", "--limit", "1")
    assert (code, [row.split()[0] for row in out.splitlines()]) == (0, ["id", ids[1]])
    code, _, err = await files("download", ids[0])
    assert (code, "in.jsonl exists; name another file with --output" in err) == (2, True), err
    assert (await files("download", ids[1], "--output", "again.bin"))[0] == 0
    assert (folder / "again.bin").read_bytes() == contents["large.bin"]
    code, out, _ = await files("delete", *ids)
    assert (code, out.split("\n")[:2]) == (0, [f"{one} is deleted" for one in ids])
    code, _, err = await files("download", ids[1], "--output", "gone.bin")
    assert (code, ids[1] in err) == (1, True), err
    assert (await files("upload", "nothing.bin"))[0] == 2
    assert sorted(os.listdir(folder)) == ["again.bin", "in.jsonl", "large.bin"]


async def command(*words: str, folder: Path) -> tuple[int | None, str, str]:
    """Run a command of ours; its exit code, output and errors."""
    pipe = asyncio.subprocess.PIPE
    program = warm.command("aibrix_extproc", *words)
    process = await asyncio.create_subprocess_exec(*program, cwd=folder, stdout=pipe, stderr=pipe)
    out, err = await asyncio.wait_for(process.communicate(), 3 * DEADLINE)
    return process.returncode, out.decode(), err.decode()


async def conformance_passes_and_leaves_nothing(running: RunningLocal, folder: Path) -> None:
    async with running.client("sk-bob") as client:
        before = {one.id async for one in client.files.list()}
        where = ("--base-url", running.value("Base URL"), "--api-key", "sk-bob", "--json", "found.json")
        code, out, err = await command(
            "conformance", "--select", "files,uploads,batches", "--quick", *where, folder=folder
        )
        cases = json.loads((folder / "found.json").read_text())["cases"]
        assert (code, err) == (0, ""), out
        # There is one chat model, and a busy machine may end a batch before it can be cancelled.
        assert {one["id"] for one in cases if one["result"] == "skip"} <= {"BAT-14", "BAT-17"}, out
        assert {one.id async for one in client.files.list()} == before


async def forgeries_are_refused(running: RunningLocal, alice: openai.AsyncOpenAI) -> None:
    forged = sign(b"k" * 32, ON_BEHALF, SignedCaller("key-2", "r", "list_models", 2**40))
    for value in (forged, "x", ""):
        with pytest.raises(openai.AuthenticationError):
            await alice.models.list(extra_headers={ON_BEHALF: value})
    # The client's copy is taken away, the gateway's own one is what the service sees.
    listed = await alice.files.list(extra_headers={SIGNED_CALLER: sign(b"k" * 32, SIGNED_CALLER, SignedCaller(
        "key-2", "r", "list_files", 2**40))})  # fmt: skip
    assert len(listed.data) > 2
    async with running.client("sk-wrong") as stranger:
        with pytest.raises(openai.AuthenticationError):
            await stranger.files.list()


async def test_state_is_kept_where_it_is_told_to_and_without_the_service_there_are_no_files(tmp_path: Path) -> None:
    keys = tmp_path / "keys.yaml"
    old, new = (new_key(keys) for _ in range(2))
    options = (
        "--engines", "1", "--simulate=--itl-ms 50 --max-num-seqs 2", "--data", str(tmp_path / "data"), "--key-file",
        str(keys),
    )  # fmt: skip
    async with local(*options) as running:
        await running.ready()
        async with running.client(old) as client, running.client(new) as other:
            made = await client.files.create(file=("a.txt", b"x"), purpose="user_data")
            await batch_goes_on_without_the_key_that_made_it(client, other, keys)
        assert await running.stop() == 0
    async with local(*options) as running:
        await running.ready()
        async with running.client(new) as client:
            assert (await client.files.content(made.id)).content == b"x"
        assert await running.stop() == 0
    async with local("--engines", "1", "--no-metadata") as running:
        await running.ready()
        async with running.client() as client:
            with pytest.raises(openai.NotFoundError, match="Invalid URL"):
                await client.files.list()
