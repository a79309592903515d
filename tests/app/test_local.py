"""`aibrix-extproc local` as a process: with a real Envoy, real gateway workers and simulated engines."""

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import openai
import pytest

from aibrix_extproc.config_files.replacing import write_atomically
from tests import warm
from tests.simulator.test_openai_sdk import wav
from tests.waiting import until
from tests.warm_client import Forked

pytestmark = [pytest.mark.envoy, pytest.mark.slow]
DEADLINE = 120.0  # generous: the machine may be busy with other tests


@dataclass
class RunningLocal:
    """The process, and what it printed so far."""

    process: warm.WarmOutput
    lines: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def value(self, name: str) -> str:
        found = re.search(rf"^  {name} +(.*)$", self.text, re.MULTILINE)
        assert found, self.text
        return found.group(1)

    def client(self, key: str = "any") -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(base_url=self.value("Base URL"), api_key=key, max_retries=0)

    async def read_until(self, condition: Callable[[str], bool]) -> str:
        """Read lines until one fulfils the condition; returns it."""
        async with asyncio.timeout(DEADLINE):
            while line := (await self.process.stdout.readline()).decode():
                self.lines.append(line.rstrip())
                if condition(line):
                    return line
        raise AssertionError(f"it ended before that line:\n{self.text}")

    async def ready(self) -> None:
        await self.read_until(lambda line: line.startswith("Stop with"))

    async def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        self.process.send_signal(number)
        async with asyncio.timeout(DEADLINE):
            return await self.process.wait()


@contextlib.asynccontextmanager
async def local(*options: str) -> AsyncIterator[RunningLocal]:
    # Not the default port: others who test at the same time would take each other's Envoy for theirs.
    ports = ("--port", "0", "--envoy-admin-port", "0")
    process = await warm.WarmOutput.start("aibrix_extproc", "local", *ports, *options)
    try:
        yield RunningLocal(process)
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await process.communicate()


def children_of(pid: int) -> dict[int, str]:
    """Process ids and command lines of the direct children."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                if int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == pid:
                    found[int(entry.name)] = (entry / "cmdline").read_text().replace("\0", " ")
    return found


def child_like(running: RunningLocal, word: str) -> int:
    [found, *_] = [pid for pid, command in children_of(running.process.pid).items() if word in command]
    return found


def exists(path: str) -> bool:
    return Path(path).exists()


async def gone(pids: list[int]) -> None:
    await until(lambda: not any(exists(f"/proc/{pid}") for pid in pids), f"{pids} are gone")


async def say_hello(client: openai.AsyncOpenAI, model: str = "sim-chat") -> str:
    answer = await client.chat.completions.create(model=model, messages=[{"role": "user", "content": "Hello!"}])
    return answer.choices[0].message.content or ""


async def hello_again(client: openai.AsyncOpenAI, model: str = "sim-chat") -> str:
    """Ask until it works; until then only OpenAI errors that tell a client to retry are acceptable."""

    async def answer() -> str | None:
        with contextlib.suppress(openai.InternalServerError, openai.APIConnectionError):
            return await say_hello(client, model)
        return None

    return await until(answer, "an answer")


async def test_printed_example_works_and_an_interrupt_leaves_nothing_behind() -> None:
    async with local("--model", "alpha", "--model", "beta", "--engines", "1") as running:
        await running.ready()
        assert running.value("Models") == "alpha, beta"
        example = running.text.split("Try it (pip install openai):\n")[1].split("  Envoy admin")[0]
        code = "\n".join(line[4:] for line in example.splitlines())
        asked = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
        answer, _ = await asked.communicate()
        assert asked.returncode == 0
        assert answer.strip()
        children = list(children_of(running.process.pid))
        assert len(children) == 5
        assert await running.stop(signal.SIGINT) == 0
        await gone(children)
        assert not exists(running.value("Logs"))


async def test_killed_children_come_back_and_it_is_said() -> None:
    async with local("--engines", "1") as running:
        await running.ready()
        async with running.client() as client:
            assert await say_hello(client)
            for word, name in (("serve", "gateway worker 1"), ("simulate", "engine 1"), ("envoy.json", "Envoy")):
                os.kill(child_like(running, word), signal.SIGKILL)
                died = await running.read_until(lambda line, name=name: name in line and "SIGKILL" in line)  # type: ignore[misc]
                assert "starting it again now" in died
                await running.read_until(lambda line, name=name: name in line and line.rstrip().endswith("is back"))  # type: ignore[misc]
                assert await hello_again(client)
        assert await running.stop(signal.SIGTERM) == 0


async def test_key_file_alone_lets_its_keys_in_and_nobody_else(tmp_path: Path) -> None:
    keys = tmp_path / "keys.yaml"
    command = warm.command("aibrix_extproc", "keys", "new", "--file", str(keys), "--caller", "team")
    made = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    key = (await made.communicate())[0].decode().strip()
    async with local("--engines", "1", "--key-file", str(keys), "--admin-port", "0") as running:
        await running.ready()
        assert running.value("Models") == "sim-chat"
        assert running.value("API key") == "one of those configured"
        assert 'api_key="YOUR_KEY"' in running.text
        async with running.client(key) as client:
            assert await say_hello(client)
        async with running.client("sk-wrong") as client:
            with pytest.raises(openai.AuthenticationError):
                await say_hello(client)


async def test_killed_local_takes_its_children_along() -> None:
    async with local() as running:
        await running.ready()
        children = list(children_of(running.process.pid))
        assert await running.stop(signal.SIGKILL) == -signal.SIGKILL
        await gone(children)


async def test_stop_while_starting_is_clean() -> None:
    async with local() as running:
        await running.read_until(lambda line: line.startswith("Starting"))
        children = list(children_of(running.process.pid))
        assert await running.stop(signal.SIGTERM) == 0
        await gone(children)


async def test_reader_that_goes_away_first_spoils_no_clean_stop(tmp_path: Path) -> None:
    """As under `make run | tee log`, where Ctrl-C ends tee as well."""
    read, write = os.pipe()
    words = ["aibrix_extproc", "local", "--port", "0", "--engines", "1"]
    with Path(os.devnull).open("rb") as nothing, (tmp_path / "errors").open("wb") as errors:  # noqa: ASYNC230
        files = (nothing.fileno(), write, errors.fileno())
        process = Forked(warm.listening(), words, files, warm.environment(), str(tmp_path))
    os.close(write)
    with os.fdopen(read) as output:
        assert await asyncio.to_thread(lambda: any(line.startswith("Stop with") for line in output))
        children = list(children_of(process.pid))
    assert len(children) == 4
    os.kill(process.pid, signal.SIGINT)
    codes: list[int] = []

    def ended() -> bool:
        code = process.exit_code(block=False)
        codes.extend([] if code is None else [code])
        return bool(codes)

    await until(ended, "it ends")
    assert codes == [0]
    assert (tmp_path / "errors").read_text() == ""
    await gone(children)


async def test_running_engines_are_used_and_their_models_discovered() -> None:
    engine_options = ["--port", "0", "--model", "mine", "--api-key", "sk-engine"]
    engine = await asyncio.create_subprocess_exec(
        *warm.command("aibrix_extproc", "simulate", *engine_options),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        url = await announced_url(engine)
        options = ("--engine", url, "--engine", "http://127.0.0.1:9", "--engine-api-key", "sk-engine")
        async with local(*options, "--api-key", "sk-client", "--workers", "2") as running:
            await running.ready()
            assert "! The engine http://127.0.0.1:9 cannot be reached: connection refused." in running.text
            assert running.value("Models") == "mine"
            assert "sk-" not in running.text
            async with running.client("sk-client") as client:
                assert await say_hello(client, "mine")
            async with running.client("sk-wrong") as client:
                with pytest.raises(openai.AuthenticationError):
                    await say_hello(client, "mine")
    finally:
        engine.terminate()
        await engine.communicate()


async def test_no_key_stands_in_the_arguments_of_any_child_and_each_is_taken_as_it_is(tmp_path: Path) -> None:
    config = tmp_path / "settings.yaml"
    config.write_text("fleet:\n  engine_api_key: sk-engine,1\n")
    keys = ("sk-a,b", "[sk-2", '["sk-3"]')
    options = [word for key in keys for word in ("--api-key", key)]
    simulate = "--simulate=--api-key 'sk-engine,1' --itl-ms 1"
    async with local("--config", str(config), "--engines", "1", simulate, *options) as running:
        await running.ready()
        commands = list(children_of(running.process.pid).values())
        assert len(commands) == 4
        assert [command for command in commands if "sk-" in command] == []
        for key in keys:
            async with running.client(key) as client:
                assert await say_hello(client, "sim-chat")
        for key in ("sk-a", "b", "sk-3"):
            async with running.client(key) as client:
                with pytest.raises(openai.AuthenticationError):
                    await say_hello(client, "sim-chat")


async def announced_url(engine: asyncio.subprocess.Process) -> str:
    assert engine.stdout is not None
    async with asyncio.timeout(DEADLINE):
        while line := (await engine.stdout.readline()).decode():
            if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                return found.group()
    raise AssertionError("the engine did not say where it listens")


async def test_fleet_file_is_followed_by_gateway_and_envoy(tmp_path: Path) -> None:
    engines = [
        await asyncio.create_subprocess_exec(
            *warm.command("aibrix_extproc", "simulate", "--port", "0", "--model", model),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        for model in ("first", "second")
    ]
    fleet = tmp_path / "fleet.yaml"
    try:
        addresses = [(await announced_url(engine)).removeprefix("http://") for engine in engines]
        write_atomically(fleet, f"endpoints: [{{address: '{addresses[0]}'}}]".encode())
        async with local("--fleet", str(fleet)) as running:
            await running.ready()
            assert running.value("Models") == "first"
            write_atomically(fleet, b"endpoints: nonsense")
            assert "the last good fleet stays in use" in await running.read_until(lambda line: "fleet.yaml" in line)
            both = ", ".join(f"{{address: '{address}'}}" for address in addresses)
            write_atomically(fleet, f"endpoints: [{both}]".encode())
            assert "2 endpoints" in await running.read_until(lambda line: "was read again" in line)
            async with running.client() as client:

                async def both_are_listed() -> bool:
                    return [model.id async for model in client.models.list()] == ["first", "second"]

                await until(both_are_listed, "both models are listed")
                assert await hello_again(client, "second")
    finally:
        for engine in engines:
            engine.terminate()
            await engine.communicate()


@pytest.mark.parametrize(
    ("options", "code", "sentence"),
    [
        (("--engine", "http://127.0.0.1:9"), 1,
         "aibrix-extproc: The engine http://127.0.0.1:9 cannot be reached: connection refused."),
        (("--envoy", "/missing"), 1, "aibrix-extproc: There is no Envoy at /missing."),
        (("--envoy", "/bin/false"), 1, "aibrix-extproc: Envoy exited with code 1 while it was starting"),
        (("--simulate=--nonsense",), 2, "aibrix-extproc: --simulate: unrecognized arguments: --nonsense."),
    ],
)  # fmt: skip
async def test_start_that_fails_is_one_sentence(options: tuple[str, ...], code: int, sentence: str) -> None:
    async with local(*options) as running:
        output, _ = await running.process.communicate()
        last = output.decode().splitlines()[-1]
        assert sentence in last
        assert running.process.returncode == code


async def test_broken_fleet_file_is_a_usage_error_that_names_the_place(tmp_path: Path) -> None:
    fleet = tmp_path / "fleet.yaml"
    fleet.write_text("endpoints:\n- {address: 127.0.0.1}\n")
    async with local("--fleet", str(fleet)) as running:
        output, _ = await running.process.communicate()
        assert running.process.returncode == 2
        assert "fleet.yaml, line 2" in output.decode()


async def test_one_command_mixes_tasks_and_prints_its_addresses_for_scripts() -> None:
    models = ("--model", "vectors=embed", "--model", "talk", "--model", "ranks=rerank", "--model", "speech=audio")
    async with local("--json", "--engines", "1", *models) as running:
        line = await running.read_until(lambda line: line.startswith("{"))
        found = json.loads(line)
        assert sorted(found["models"]) == ["ranks", "speech", "talk", "vectors"]
        assert found["wants_key"] is False
        assert len(found["gateway_admins"]) == 1
        async with openai.AsyncOpenAI(base_url=found["base_url"], api_key="any", max_retries=0) as client:
            assert await say_hello(client, "talk")
            assert (await client.embeddings.create(model="vectors", input="x")).data[0].embedding
            body = {"model": "ranks", "query": "x", "documents": ["a", "b"]}
            ranked = await client.post("/rerank", body=body, cast_to=dict[str, object])
            assert len(ranked["results"]) == 2
            heard = await client.audio.transcriptions.create(model="speech", file=("a.wav", wav(1), "audio/wav"))
            assert heard.text
        chat = warm.command("aibrix_extproc", "chat", "--base-url", found["base_url"], "Hello")
        asked = await asyncio.create_subprocess_exec(
            *chat, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        out, notes = await asked.communicate()  # ranks comes first in the list, and cannot chat
        assert asked.returncode == 0
        assert out.strip()
        assert "Trying" in notes.decode()


async def test_nothing_but_json_goes_to_standard_output() -> None:
    command = warm.command("aibrix_extproc", "local", "--port", "0", "--engines", "1", "--json")
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe, env=warm.environment())
    assert process.stdout is not None
    async with asyncio.timeout(DEADLINE):
        first = await process.stdout.readline()
    process.send_signal(signal.SIGINT)
    rest, said = await process.communicate()
    assert json.loads(first)["base_url"].startswith("http://127.0.0.1:")
    assert rest == b""
    assert b"Starting" in said


async def test_workers_take_connections_of_their_envoy_only(tmp_path: Path) -> None:
    async with local("--run-dir", str(tmp_path), "--workers", "2") as running:
        await running.ready()
        async with running.client() as client:
            answer = await client.chat.completions.create(
                model="sim-chat", messages=[{"role": "user", "content": "hello"}]
            )
            assert answer.choices[0].message.content
        for number in (1, 2):
            log = (tmp_path / "logs" / f"gateway-worker-{number}.log").read_text()
            listening = next(json.loads(line) for line in log.splitlines() if '"listening"' in line)
            host, _, port = listening["ext_proc"].rpartition(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0)))
            with contextlib.suppress(ConnectionError):
                async with asyncio.timeout(DEADLINE):
                    assert b"\x00\x00\x00\x04\x01" not in await reader.read()  # no answer to SETTINGS in plaintext
            writer.close()
        secrets = [path for path in (tmp_path / "tls").rglob("*") if path.is_file()]
        assert len(secrets) == 6
        assert all(path.stat().st_mode & 0o077 == 0 for path in (*secrets, tmp_path / "note-keys"))
        assert await running.stop() == 0
