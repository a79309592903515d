"""Three gateways behind one Envoy, with a real Redis: they find in the engines' caches what others have sent there."""

import secrets
from collections.abc import Iterator
from typing import Any, Final

import pytest

from tests.dataplane.engines import EngineSpec
from tests.dataplane.stack import METERED, Stack, running
from tests.redis_server import RedisServer, redis_server
from tests.waiting import eventually

pytestmark = pytest.mark.slow

GATEWAYS: Final = 3
ENGINES: Final = 4
GROUPS: Final = 8
ROUNDS: Final = 2  # after the first, in which nobody can have anything
REPEATED: Final = GROUPS * ROUNDS
MOST: Final = 0.9 * REPEATED  # on a busy machine another engine may seem to be sooner


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture(scope="module")
def stack(redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("shared")
    (folder / "keys").write_text(secrets.token_hex(32) + "\n")
    arguments = (
        "--metering", "--note-keys", str(folder / "keys"), "--redis", redis.url, "--share-placements",
    )  # fmt: skip
    engines = tuple(
        EngineSpec(f"e{number}", ("chat-m",), ("--enable-prompt-tokens-details", "--prefill-us-per-token", "50"))
        for number in range(ENGINES)
    )
    with running(
        Stack(folder, engines, serve_arguments=arguments, envoy_options=METERED, workers_wanted=GATEWAYS)
    ) as started:
        yield started


def sharing(stack: Stack) -> list[dict[str, Any]]:
    return [worker.admin("/readyz").json()["sharing"] for worker in stack.workers]


def ask(stack: Stack, name: str) -> bool:
    """Whether most of the prompt was in the cache of the engine that got it."""
    prompt = f"{name} ".ljust(6_000, "x")
    answer = stack.post("/v1/completions", {"model": "chat-m", "prompt": prompt, "max_tokens": 1})
    assert answer.status == 200, answer
    usage = answer.json()["usage"]
    cached = (usage["prompt_tokens_details"] or {}).get("cached_tokens") or 0
    return bool(cached > usage["prompt_tokens"] / 2)


def repeated(stack: Stack, name: str) -> int:
    """Of REPEATED requests those that hit."""
    return sum(ask(stack, f"{name}-{number % GROUPS}") for number in range(REPEATED))


def hits(stack: Stack, name: str) -> int:
    """Of REPEATED requests, those that found their prompt, once all gateways know of the first ones."""
    told = sum(one["received"] for one in sharing(stack)) + GROUPS * (GATEWAYS - 1)
    for group in range(GROUPS):
        assert not ask(stack, f"{name}-{group}")
    eventually(lambda: sum(one["received"] for one in sharing(stack)) >= told, "all know of all placements")
    return repeated(stack, name)


def test_gateways_find_what_others_sent_and_serve_alone_without_redis(stack: Stack, redis: RedisServer) -> None:
    ask(stack, "wakes the strategy of one gateway at least")

    def all_share() -> bool:
        for _ in range(GATEWAYS):
            ask(stack, secrets.token_hex(8))
        return all(one.get("gateways", 0) >= GATEWAYS - 1 and not one["away"] for one in sharing(stack))

    eventually(all_share, "each gateway hears the two others")
    assert hits(stack, "first") > MOST
    redis.stop()
    eventually(lambda: all(one["away"] for one in sharing(stack)), "gateways know that Redis is gone")
    received = [one["received"] for one in sharing(stack)]
    repeated(stack, "second")  # each is served
    assert [one["received"] for one in sharing(stack)] == received
    assert all(worker.total("aibrix_extproc_sharing_ok") == 0 for worker in stack.workers)
    redis.start()
    eventually(all_share, "they share again")
    assert hits(stack, "third") > MOST
    assert not any(sum(one["refused"].values()) for one in sharing(stack))
    stack.workers[0].child.kill()
    stack.restart_worker(0)
    stack.wait_fleet_known()
    eventually(all_share, "the new gateway shares, too")
    assert repeated(stack, "third") > MOST
