"""`aibrix-extproc chat` as a process, at a terminal and in pipes, against a real server of OpenAI's interface."""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from aibrix_extproc.cli.chat.conversation import COMMANDS, Command, Conversation, command_of, message_of
from aibrix_extproc.simulator.options import SimulatorOptions
from aibrix_extproc.simulator.server import Simulator
from tests import warm
from tests.cli.terminal import at_a_terminal, environment

pytestmark = pytest.mark.slow
CHAT = (sys.executable, "-m", "aibrix_extproc", "chat")
KEY = "sk-of-the-engine"


@pytest.fixture
async def engine() -> AsyncIterator[Simulator]:
    async with Simulator(SimulatorOptions(models=("chat-a", "chat-b"), port=0, itl_ms=0)) as found:
        yield found


async def piped(sim: Simulator, *arguments: str, stdin: str = "", **variables: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *warm.command("aibrix_extproc", "chat", "--base-url", sim.base_url, *arguments),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env=environment(variables),
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(stdin.encode()), 60)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_question_through_a_pipe_gives_the_answer_and_nothing_else(engine: Simulator) -> None:
    code, out, err = await piped(engine, "--temperature", "0", stdin="Say hello.\n")
    assert (code, err) == (0, "")
    assert out.endswith("\n")
    assert out.strip()
    assert "\x1b" not in out
    assert await piped(engine, "--temperature", "0", "Say hello.") == (0, out, "")


async def test_server_that_is_not_there_is_one_sentence_that_says_what_to_do() -> None:
    process = await asyncio.create_subprocess_exec(
        *warm.command("aibrix_extproc", "chat", "--base-url", "http://127.0.0.1:1/v1", "hi"),
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE, env=environment({}),
    )  # fmt: skip
    _, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 1
    assert err.decode().startswith("Nothing answers at http://127.0.0.1:1/v1: start something there")
    assert len(err.splitlines()) == 1


async def test_model_that_is_not_there_is_told_in_the_api_s_words(engine: Simulator) -> None:
    code, out, err = await piped(engine, "--model", "none", "hi")
    assert (code, out) == (1, "")
    assert err.startswith("The model `none` does not exist.")


async def test_key_comes_from_the_environment_or_a_file_and_is_never_an_argument(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    async with Simulator(SimulatorOptions(models=("chat-a",), port=0, api_keys=(KEY,))) as sim:
        code, _, err = await piped(sim, "hi")
        assert code == 1
        assert "--api-key-file" in err
        assert (await piped(sim, "hi", OPENAI_API_KEY=KEY))[0] == 0
        assert (await piped(sim, "--api-key-file", str(file), "hi"))[0] == 0
        for words in (("--api-key", KEY), (f"--api-key={KEY}",)):
            code, out, err = await piped(sim, *words, "hi")
            assert code == 2
            assert "OPENAI_API_KEY" in err
            assert KEY not in out + err


@pytest.mark.parametrize("content", ["", "two words", "\xff", "x" * 5000], ids=["empty", "words", "binary", "long"])
async def test_key_file_that_holds_no_key_is_refused(engine: Simulator, tmp_path: Path, content: str) -> None:
    file = tmp_path / "key"
    file.write_text(content, encoding="latin-1")
    code, _, err = await piped(engine, "--api-key-file", str(file), "hi")
    assert (code, err) == (2, f"aibrix-extproc: the key file {file} must hold one key and nothing else\n")


async def test_chat_at_a_terminal_talks_obeys_and_leaves(engine: Simulator) -> None:
    async with at_a_terminal(*CHAT, "--base-url", engine.base_url) as terminal:
        here = await terminal.until("/help lists commands; Ctrl-C stops an answer.\n> ")
        assert terminal.plain.startswith("chat-a at ")
        terminal.type("Hello there\n")
        here = await terminal.until("a second\n> ", after=here)
        terminal.type("/modles\n")
        here = await terminal.until("There is no command /modles; did you mean /models? /help lists them.", after=here)
        terminal.type("/model chat-b\n/models\n")
        here = await terminal.until("  chat-a\n* chat-b\n> ", after=here)
        terminal.type("/system Be short.\n/history\n")
        here = await terminal.until("system: Be short.\nuser: Hello there\nassistant: ", after=here)
        terminal.type("/reset\n/history\n/help\n")
        here = await terminal.until("/quit          leave; so does Ctrl-D", after=here)
        here = await terminal.until(
            "\n> ", after=here
        )  # what is typed before the prompt meets a terminal in another mode
        assert terminal.plain[:here].count("user: ") == 1
        await terminal.until_interrupted("Ctrl-D or /quit leaves.\n> ", after=here)
        terminal.type("\x04")
        assert await terminal.ended() == 0
        assert "\x1b[" in terminal.shown


async def test_interrupt_stops_an_answer_and_the_chat_goes_on() -> None:
    options = SimulatorOptions(models=("chat-a",), port=0, itl_ms=50, output_tokens=400)
    async with Simulator(options) as sim, at_a_terminal(*CHAT, "--base-url", sim.base_url, NO_COLOR="1") as terminal:
        here = await terminal.until("an answer.\n> ")
        terminal.type("Hello\n")
        here = await terminal.until("Hello\n", after=here)
        here = await terminal.until(" ", after=here + 1)
        terminal.interrupt()
        here = await terminal.until("Stopped.\n> ", after=here)
        terminal.type("/history\n")
        here = await terminal.until("assistant: ", after=here)
        terminal.type("/quit\n")
        assert await terminal.ended() == 0
        assert "\x1b[" not in terminal.shown.replace("\x1b[?2004h", "").replace("\x1b[?2004l", "")


async def test_answer_cannot_steer_the_terminal() -> None:
    program = "from aibrix_extproc.cli.chat.screen import Screen; Screen().piece('a\\x1b[2J\\x07\\x9bb\\tc\\n')"
    async with at_a_terminal(sys.executable, "-c", program) as terminal:
        assert await terminal.ended() == 0
        assert terminal.shown == "a[2Jb\tc\r\n"


def test_commands_are_told_from_messages() -> None:
    assert command_of(" /model  a b ") == Command("/model", "a b")
    assert command_of("/exit") == Command("/quit")
    assert command_of("//path") is None
    assert message_of("//path") == "/path"
    assert command_of("hello /quit") is None
    assert {line.split()[0] for line in COMMANDS} >= {"/help", "/model", "/quit"}


def test_conversation_keeps_questions_with_their_answers() -> None:
    talk = Conversation("m", "Be short.")
    talk.ask("a")
    talk.answer("1")
    talk.ask("b")
    talk.answer("")
    assert [one["content"] for one in talk.to_send] == ["Be short.", "a", "1"]
    assert talk.take_back() == "a"
    assert (talk.messages, talk.take_back()) == ([], "")
