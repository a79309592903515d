"""What the person in front of `local` reads."""

import ast
import asyncio
import sys
import wave
from dataclasses import replace
from pathlib import Path

import pytest

from aibrix_extproc.adapters.envoyproxy.spec import ProcessorTls, SocketAddress
from aibrix_extproc.adapters.envoyproxy.supervise import ChildEvent, ChildState
from aibrix_extproc.app.local import screen as local_screen
from aibrix_extproc.app.local.plan import Directories, GatewayWorker, Plan, SimulatedEngine
from aibrix_extproc.app.local.tls import LocalTls
from aibrix_extproc.core.fleet.model import Task
from aibrix_extproc.settings import load
from aibrix_extproc.simulator.options import SimulatorOptions
from aibrix_extproc.simulator.options import Task as SimulatorTask
from aibrix_extproc.simulator.server import Simulator

LOG = Path("/run/x/logs/w.log")


def a_plan(**changes: object) -> Plan:
    plan = Plan(
        envoy=Path("/bin/envoy"),
        listen=SocketAddress("127.0.0.1", 8080),
        envoy_admin=SocketAddress("127.0.0.1", 9901),
        workers=(GatewayWorker("gateway worker 1", 1, 2), GatewayWorker("gateway worker 2", 3, 4)),
        simulated=(SimulatedEngine("engine 1", "m", "", 5, ()),),
        engine_addresses=(),
        fleet=Path("/run/x/fleet.yaml"),
        admin_key=Path("/run/x/admin-key"),
        note_keys=Path("/run/x/note-keys"),
        tls=LocalTls(Path("/run/x/tls"), ProcessorTls(Path("ca"), "workers", Path("crt"), Path("key"))),
        directories=Directories(Path("/run/x"), Path("/run/x/logs"), Path("/run/x/endpoints")),
        settings=load(environment={}),
        config=None,
        api_keys=(),
    )
    return replace(plan, **changes)  # type: ignore[arg-type]


def example_in(text: str) -> str:
    lines = text.split("Try it (pip install openai):\n")[1].split("\n\n  Envoy admin")[0]
    return "\n".join(line[4:] for line in lines.splitlines())


def test_screen_has_everything_that_a_newcomer_needs() -> None:
    text = local_screen.screen(a_plan(), ["m", "n"], [], 1.26)
    for expected in (
        "Ready after 1.3 s.",
        "http://127.0.0.1:8080/v1",
        "m, n",
        "any (none is configured)",
        "http://127.0.0.1:9901",
        "http://127.0.0.1:2 http://127.0.0.1:4",
        "/run/x/logs",
        "Ctrl-C",
    ):
        assert expected in text
    assert len(text.splitlines()) <= 24


def test_example_on_the_screen_is_python_for_this_gateway() -> None:
    code = example_in(local_screen.screen(a_plan(), ["m"], [], 1))
    ast.parse(code)
    assert 'base_url="http://127.0.0.1:8080/v1"' in code
    assert 'model="m"' in code


@pytest.mark.parametrize(
    ("models", "tasks", "called", "model"),
    [
        (["vectors"], {"vectors": ("embed",)}, "client.embeddings.create", "vectors"),
        (["vectors", "words"], {"vectors": ("embed",), "words": ("generate",)}, "client.chat", "words"),
        (["both"], {"both": ("embed", "score")}, "client.embeddings.create", "both"),
        (["new"], {"new": ()}, "client.chat", "new"),
        ([], {}, "client.chat", "MODEL"),
    ],
    ids=["embedding", "chat beside embedding", "several tasks", "unknown", "none yet"],
)
def test_example_is_one_that_the_models_can_answer(
    models: list[str], tasks: dict[str, tuple[str, ...]], called: str, model: str
) -> None:
    code = example_in(local_screen.screen(a_plan(), models, [], 1, tasks))
    assert called in code
    assert f'"{model}"' in code


@pytest.mark.slow
@pytest.mark.parametrize("task", Task)
async def test_example_of_every_task_works(task: Task, tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "speech.wav"), "wb") as speech:
        speech.setparams((1, 2, 8000, 8000, "NONE", ""))
        speech.writeframes(bytes(16000))
    options = SimulatorOptions(models=("m",), task=SimulatorTask("rerank" if task is Task.SCORE else task.value))
    async with Simulator(options) as engine:
        # The gateway has /classify below /v1 as well; engines have not.
        url = engine.url if task is Task.CLASSIFY else f"{engine.url}/v1"
        code = example_in(local_screen.screen(a_plan(), ["m"], [], 1, {"m": (task.value,)}))
        code = code.replace(a_plan().base_url, url)
        asked = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        output, _ = await asked.communicate()
    assert asked.returncode == 0, output.decode()
    assert output.strip()


def test_configured_keys_are_mentioned_but_not_shown() -> None:
    settings = load(flags={"access": {"api_keys": ["sk-secret"]}}, environment={})
    text = local_screen.screen(a_plan(settings=settings), ["m"], [], 1)
    assert "sk-secret" not in text
    assert 'api_key="YOUR_KEY"' in text


def test_engines_that_cannot_be_used_are_named_with_their_reason() -> None:
    line = local_screen.warning("127.0.0.1:8000", "not_ready", "the engine wants a key, none is configured")
    text = local_screen.screen(a_plan(), [], [line], 1)
    assert "! Engine 127.0.0.1:8000 is not ready: the engine wants a key, none is configured" in text
    assert "none yet" in text


def test_first_line_counts_what_is_started() -> None:
    assert local_screen.starting(a_plan()).startswith("Starting 1 simulated engine, 2 gateway workers and Envoy")
    assert local_screen.starting(a_plan(simulated=())).startswith("Starting 2 gateway workers and Envoy")


@pytest.mark.parametrize(
    ("event", "was_ready", "line"),
    [
        (ChildEvent("w", ChildState.STARTED), False, None),
        (ChildEvent("w", ChildState.READY), False, "w is ready"),
        (ChildEvent("w", ChildState.READY), True, "w is back"),
        (ChildEvent("w", ChildState.DIED, "exited with code 1"), False, None),
        (
            ChildEvent("w", ChildState.DIED, "was ended by SIGKILL"),
            True,
            f"w was ended by SIGKILL; starting it again now (log: {LOG})",
        ),
        (
            ChildEvent("w", ChildState.DIED, "exited with code 1", 0.5),
            True,
            f"w exited with code 1; starting it again in 0.5 s (log: {LOG})",
        ),
        (ChildEvent("w", ChildState.STOPPED), True, None),
    ],
)
def test_lines_about_children_say_what_people_need_to_hear(
    event: ChildEvent, was_ready: bool, line: str | None
) -> None:
    assert local_screen.child_line(event, was_ready=was_ready, log=LOG) == line
