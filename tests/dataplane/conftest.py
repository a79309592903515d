"""A fleet behind a real Envoy for each worker, and stacks of their own for tests that break things."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.dataplane.engines import Engine, EngineSpec
from tests.dataplane.stack import METERED, Stack, running

KEY = "sk-test-0123456789abcdefghij"

FLEET = (
    EngineSpec("chat-1", ("chat-m",), ("--multimodal", "--enable-auto-tool-choice", "--max-model-len", "16384")),
    EngineSpec("chat-2", ("chat-m",), ("--multimodal", "--enable-auto-tool-choice", "--max-model-len", "16384")),
    EngineSpec("small", ("org/chat-s", "chat-s"), ("--lora", "lora-1=/adapters/lora-1", "--max-model-len", "512")),
    EngineSpec("emb", ("emb-m",), ("--task", "embed", "--embedding-dimensions", "3072")),
    EngineSpec("asr", ("asr-m",), ("--task", "transcription")),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = f"{Path(__file__).parent}/"  # text, because comparing paths of ten thousand tests takes a second
    for item in items:
        if str(item.path).startswith(here):
            item.add_marker(pytest.mark.envoy)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The shared fleet. Tests must leave it as they found it."""
    with running(
        Stack(
            tmp_path_factory.mktemp("stack"),
            FLEET,
            api_keys=(KEY,),
            serve_arguments=("--metering",),
            envoy_options=METERED,
        )
    ) as started:
        yield started


@pytest.fixture
def client(stack: Stack) -> Iterator[openai.OpenAI]:
    with stack.client() as made:
        yield made


@pytest.fixture
def chat_engines(stack: Stack) -> Iterator[list[Engine]]:
    """The engines of chat-m; faults planned on them end with the test."""
    engines = stack.engines_of("chat-m")
    yield engines
    for engine in engines:
        engine.recover()


@pytest.fixture
def new_stack(tmp_path: Path) -> Iterator[Callable[..., Stack]]:
    """Starts stacks that a test may break: `new_stack(specs, **options)`."""
    with ExitStack() as stacks:

        def start(engines: tuple[EngineSpec, ...], **options: Any) -> Stack:
            directory = tmp_path / f"stack-{len(list(tmp_path.iterdir()))}"
            directory.mkdir()
            return stacks.enter_context(running(Stack(directory, engines, killable=True, **options)))

        yield start
