"""The components `keys` and `metering` with a real Envoy Gateway, set up as operations.md says."""

import asyncio
import contextlib
import io
import json
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import openai
import pytest
import pytest_asyncio
import yaml

from aibrix_extproc.cli.main import main
from aibrix_extproc.doctor.finding import Severity
from tests.cluster.asking import engine
from tests.cluster.conftest import GATEWAY, NAMESPACE, Cluster, an_answer
from tests.cluster.network import NODE
from tests.cluster.processors import no_processors, processors
from tests.cluster.test_clients import CHAT, asked, no_engine_ready
from tests.cluster.test_doctor import findings, until_named
from tests.dataplane.openai_error import assert_openai_error
from tests.manifests.built import MANIFESTS
from tests.waiting import until

pytestmark = [pytest.mark.kubernetes, pytest.mark.slow, pytest.mark.asyncio(loop_scope="package")]

MODEL: Final = "model-metered"
TRY: Final = str(MANIFESTS / "overlays" / "try")
HELLO: Final = [{"role": "user", "content": "hello " * 50}]
SERVICE: Final = "/api/v1/namespaces/envoy-gateway-system/services/aibrix-extproc"


@pytest_asyncio.fixture(loop_scope="package", scope="module")
async def key(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """A caller's key. The overlay `try` has keys and metering until the end of this file."""
    folder = tmp_path_factory.mktemp("metering")
    shutil.copytree(MANIFESTS, folder / "manifests")
    components = [f"manifests/components/{name}" for name in ("keys", "metering")]
    wanted = {"resources": ["manifests/overlays/try"], "components": components}
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(wanted), encoding="utf-8")
    await asyncio.to_thread(cluster.plane.kubectl, "apply", "-k", str(folder))
    await refused_without_lua_and_secrets(cluster)
    found = await asyncio.to_thread(make_secrets, cluster, folder)
    await asyncio.to_thread(lambda: cluster.plane.restart_gateway(enableLua=True))
    await until_served(cluster, found, 200)
    async with metered_engine(cluster, found):
        yield found
    await asyncio.to_thread(cluster.plane.kubectl, "apply", "-k", TRY)
    await asyncio.to_thread(cluster.plane.restart_gateway)
    await until_served(cluster, "", 200)


def make_secrets(cluster: Cluster, folder: Path) -> str:
    """The commands of operations.md; the key that `keys new` shows. The note keys are there for `try` already."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert main(["keys", "new", "--file", str(folder / "keys.yaml"), "--caller", "my-team"]) == 0
    secret = ("-n", NAMESPACE, "create", "secret", "generic")
    cluster.plane.kubectl(*secret, "aibrix-extproc-keys", f"--from-file={folder / 'keys.yaml'}")
    found = re.search(r"sk-\S+", printed.getvalue())
    assert found is not None, printed.getvalue()
    return found[0]


async def refused_without_lua_and_secrets(cluster: Cluster) -> None:
    """The manifests are applied before what they want: all of it is refused, and doctor knows why."""

    async def refused() -> bool:
        return (await asked("POST", "/v1/chat/completions", CHAT)).status in (500, 503)

    await until(refused, seconds=60)

    async def named() -> bool:
        found = await findings(cluster)
        switch = [one for one in found if "extensionApis.enableLua" in one.fix and one.check == "conditions"]
        secrets = [one for one in found if "a Secret is missing" in one.fix and one.check == "deployed"]
        return [one.severity for one in (*switch, *secrets)] == [Severity.ERROR, Severity.WARNING]

    await until(named, seconds=60)


async def until_served(cluster: Cluster, key: str, status: int) -> None:
    """All processors are those of the latest template, and twenty answers in a row are what they shall be."""
    good = 0

    async def served() -> bool:
        nonlocal good
        ready = [life.ready for life in processors(cluster)] == [True, True]
        answer = await asked("POST", "/v1/chat/completions", CHAT, authorization=f"Bearer {key or 'any'}")
        good = good + 1 if ready and answer.status == status else 0
        return good >= 20

    await until(served, seconds=120)


@contextlib.asynccontextmanager
async def metered_engine(cluster: Cluster, key: str) -> AsyncIterator[None]:
    async with engine(cluster, "metered", MODEL, ready=False):
        cluster.node.held.discard("metered")

        async def answers() -> bool:
            body = CHAT | {"model": MODEL}
            return (await asked("POST", "/v1/chat/completions", body, authorization=f"Bearer {key}")).status == 200

        await until(answers, seconds=60)
        yield


async def counted(cluster: Cluster) -> dict[str, float]:
    """Tokens of our model and caller by kind, of all processors together."""
    found: dict[str, float] = {}
    for life in processors(cluster):
        async with cluster.session.get(f"http://{life.ip}:9003/metrics") as answer:
            text = await answer.text()
        for labels, value in re.findall(r"^aibrix_extproc_tokens_total\{(.*)\} (\S+)$", text, re.MULTILINE):
            if f'model="{MODEL}"' in labels and 'caller="my-team"' in labels:
                (kind,) = re.findall(r'kind="(\w+)"', labels)
                found[kind] = found.get(kind, 0.0) + float(value)
    return found


async def until_still(cluster: Cluster) -> dict[str, float]:
    """Tokens, once a report that is a second late would be there: two looks more than that apart are equal."""
    before = await counted(cluster)
    while True:
        await asyncio.sleep(2)  # the access log's flush interval is one
        now = await counted(cluster)
        if now == before:
            return now
        before = now


async def test_only_callers_with_a_key_are_served_but_health_needs_none(cluster: Cluster, key: str) -> None:
    assert_openai_error(await asked("GET", "/v1/models"), 401)
    assert_openai_error(await asked("POST", "/healthz", {}), 401)
    assert (await asked("GET", "/healthz")).json() == {"status": "ok"}
    async with openai.AsyncOpenAI(base_url=f"{GATEWAY}/v1", api_key=key, max_retries=0) as client:
        assert MODEL in [one.id async for one in client.models.list()]
    assert await an_answer(cluster) == 401


async def test_health_without_a_key_is_red_while_no_engine_or_no_processor_is_there(cluster: Cluster, key: str) -> None:
    async def code() -> str | None:
        answer = await asked("GET", "/healthz")
        return None if answer.status == 200 else str(answer.json()["error"]["code"])

    async def no_engine() -> bool:
        return await code() == "no_engine_ready"

    async def green() -> bool:
        return await code() is None

    cluster.node.held.add("metered")
    try:
        async with no_engine_ready(cluster):
            await until(no_engine)
    finally:
        cluster.node.held.discard("metered")
    await until(green)
    async with no_processors(cluster):
        assert await code() == "gateway_unavailable"
    await until(green)
    await until_served(cluster, key, 200)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    ("path", "body"),
    [("/v1/chat/completions", {"messages": HELLO, "max_tokens": 7}),
     ("/v1/completions", {"prompt": "hello", "max_tokens": 7}),
     ("/v1/messages", {"messages": HELLO, "max_tokens": 7}),
     ("/v1/responses", {"input": "hello", "max_output_tokens": 7, "user": "u" * 9000})],
    ids=["chat", "completion", "messages", "response"],
)  # fmt: skip
async def test_tokens_are_counted(cluster: Cluster, key: str, path: str, body: dict[str, Any], stream: bool) -> None:
    before = await until_still(cluster)
    wanted = {"model": MODEL, "stream": stream} | body
    answer = await asked("POST", path, wanted, authorization=f"Bearer {key}")
    assert answer.status == 200, answer.body
    if "user" in body and not stream:  # repeated behind the usage
        assert answer.body.rindex(b'"usage"') < len(answer.body) - 9000
    usage = (await told(path, wanted, key)) if stream else answer.json()["usage"]
    times = 2 if stream else 1

    async def as_told() -> bool:
        now = await counted(cluster)
        found = {kind: now.get(kind, 0) - before.get(kind, 0) for kind in ("input", "output")}
        return found == {kind: times * tokens for kind, tokens in told_tokens(usage).items()}

    await until(as_told)


async def told(path: str, body: dict[str, Any], key: str) -> dict[str, Any]:
    """What the same request costs when it is not streamed."""
    answer = await asked("POST", path, body | {"stream": False}, authorization=f"Bearer {key}")
    usage: dict[str, Any] = json.loads(answer.body)["usage"]
    return usage


def told_tokens(usage: dict[str, Any]) -> dict[str, Any]:
    """The two vocabularies of usage as one."""
    return {"input": usage.get("prompt_tokens", usage.get("input_tokens")),
            "output": usage.get("completion_tokens", usage.get("output_tokens"))}  # fmt: skip


async def test_doctor_names_a_load_balancer_without_address_and_nothing_else(cluster: Cluster, key: str) -> None:
    """The component `keys` asks for one, and nobody gives it an address here until the test does."""
    gateway = f"Gateway {NAMESPACE}/aibrix-extproc"
    (missing,) = await until_named(cluster, {(Severity.WARNING, "conditions", gateway)})
    assert "port-forward" in missing.notice
    address = {"status": {"loadBalancer": {"ingress": [{"ip": NODE}]}}}
    await cluster.admin.ask("PATCH", f"{SERVICE}/status", address)
    found = await until_named(cluster, set())
    assert found == []
    assert {one.check for one in await findings(cluster)} == {"version", "lua_switch"}


async def test_no_entry_was_refused_and_no_answer_went_unmetered(cluster: Cluster, key: str) -> None:
    for life in processors(cluster):
        async with cluster.session.get(f"http://{life.ip}:9003/metrics") as answer:
            text = await answer.text()
        bad = re.findall(
            r"^aibrix_extproc_(?:access_log_refused|access_log_malformed|unmetered)_total\S* [1-9].*",
            text,
            re.MULTILINE,
        )
        assert bad == []
