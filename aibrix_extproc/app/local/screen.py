"""The output of `aibrix-extproc local` for its user. Pure: values in, text out."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final

from aibrix_extproc.adapters.envoyproxy.supervise import ChildEvent, ChildState
from aibrix_extproc.app.local.plan import Plan
from aibrix_extproc.app.local.ports import LOOPBACK
from aibrix_extproc.core.fleet.model import Task

_EXAMPLE: Final = """\
  Try it (pip install openai):

    from openai import OpenAI

    client = OpenAI(base_url="{base_url}", api_key="{key}")
{call}
"""
# What a model does -> how to see it; of several, the first. A fleet with any chat model shows that one.
_CALLS: Final = {
    Task.GENERATE: """\
    answer = client.chat.completions.create(
        model="{model}", messages=[{{"role": "user", "content": "Hello!"}}]
    )
    print(answer.choices[0].message.content)""",
    Task.EMBED: """\
    answer = client.embeddings.create(model="{model}", input="Hello!")
    print(answer.data[0].embedding[:8])""",
    Task.TRANSCRIBE: """\
    answer = client.audio.transcriptions.create(model="{model}", file=open("speech.wav", "rb"))
    print(answer.text)""",
    Task.SCORE: """\
    body = {{"model": "{model}", "query": "A greeting?", "documents": ["Hello!", "A cat."]}}
    print(client.post("/rerank", body=body, cast_to=object))""",
    Task.CLASSIFY: """\
    body = {{"model": "{model}", "input": "Hello!"}}
    print(client.post("/classify", body=body, cast_to=object))""",
}


def starting(plan: Plan) -> str:
    """The first line: what is being started."""
    parts = [_count(len(plan.simulated), "simulated engine")] if plan.simulated else []
    parts += [_count(len(plan.workers), "gateway worker")]
    parts += ["the metadata service"] if plan.metadata is not None else []
    parts += ["Envoy"]
    return f"Starting {', '.join(parts[:-1])} and {parts[-1]} (logs: {plan.directories.logs})"


def screen(
    plan: Plan,
    models: Sequence[str],
    warnings: Sequence[str],
    seconds: float,
    tasks: Mapping[str, Collection[str]] = MappingProxyType({}),
    program: str = "aibrix-extproc",
) -> str:
    """The one screen that says that all is ready and how to use it.

    `tasks`: what models do, where it is known; `program`: our command as the user's shell finds it.
    """
    key = "YOUR_KEY" if plan.wants_keys else "any"
    example = _EXAMPLE.format(base_url=plan.base_url, key=key, call=_call(models, tasks))
    admins = [f"http://{LOOPBACK}:{worker.admin_port}" for worker in plan.workers]
    rows = [
        ("Base URL", plan.base_url),
        ("API key", "one of those configured" if plan.wants_keys else "any (none is configured)"),
        ("Models", ", ".join(models) or "none yet; they appear when an engine is ready"),
        ("Chat", _chat(plan, program)),
    ]
    places = [
        ("Envoy admin", f"http://{plan.envoy_admin}"),
        ("Gateway admin", " ".join(admins) + " (/explorer, /metrics, /fleet, /readyz)"),
        ("Admin key", f"in {plan.admin_key}"),
        ("Fleet", str(plan.fleet)),
        ("Logs", str(plan.directories.logs)),
    ]
    if plan.metadata is not None:
        places.append(
            (
                "Data",
                str(plan.metadata.data) + ("" if plan.metadata.is_kept else " (until we stop; --data DIR keeps it)"),
            )
        )
    lines = [f"Ready after {seconds:.1f} s.", "", *_table(rows), ""]
    lines += [*(f"  ! {warning}" for warning in warnings), *([""] if warnings else [])]
    return "\n".join([*lines, example, *_table(places), "", "Stop with Ctrl-C."])


def addresses(plan: Plan, models: Sequence[str]) -> dict[str, object]:
    """The same for scripts."""
    return {
        "base_url": plan.base_url,
        "wants_key": plan.wants_keys,
        "models": list(models),
        "envoy_admin": f"http://{plan.envoy_admin}",
        "gateway_admins": [f"http://{LOOPBACK}:{worker.admin_port}" for worker in plan.workers],
        "explorer": f"http://{LOOPBACK}:{plan.workers[0].admin_port}/explorer",
        "metadata_admin": None if plan.metadata is None else f"http://{LOOPBACK}:{plan.metadata.admin_port}",
        "data": None if plan.metadata is None else str(plan.metadata.data),
        "admin_key": str(plan.admin_key),
        "fleet": str(plan.fleet),
        "logs": str(plan.directories.logs),
    }


def _chat(plan: Plan, program: str) -> str:
    """The command of ours that talks to it, in a second terminal."""
    is_default = plan.base_url == f"http://{LOOPBACK}:8080/v1"
    return f"{program} chat" + ("" if is_default else f" --base-url {plan.base_url}")


def _call(models: Sequence[str], tasks: Mapping[str, Collection[str]]) -> str:
    """A call that works: of a model whose tasks are not known, the one that most models understand."""
    for task, call in _CALLS.items():
        for model in models:
            if task in tasks.get(model, ()):
                return call.format(model=model)
    return _CALLS[Task.GENERATE].format(model=models[0] if models else "MODEL")


def child_line(event: ChildEvent, *, was_ready: bool, log: Path) -> str | None:
    """A line about a child, None for an event without news: a death at the start ends everything anyway."""
    if event.state is ChildState.READY:
        return f"{event.name} is {'back' if was_ready else 'ready'}"
    if event.state is ChildState.DIED and was_ready:
        when = f"in {event.restart_in:g} s" if event.restart_in else "now"
        return f"{event.name} {event.detail}; starting it again {when} (log: {log})"
    return None


def warning(address: str, health: str, detail: str) -> str:
    """A line about an engine that cannot be used."""
    return f"Engine {address} is {health.replace('_', ' ')}" + (f": {detail}" if detail else "")


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


def _table(rows: Sequence[tuple[str, str]]) -> list[str]:
    return [f"  {name:<14} {value}" for name, value in rows]
