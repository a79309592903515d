"""`make bench-sharing`: what three gateways find in the engines' caches, with `routing.share` and without.

Real processes: Envoy, `local` with three workers, simulated engines and a Redis. Conversations go on in turn, one
request at a time, so that no engine is busy: what is measured is what gateways know of caches, and hardly the machine.
"""

import argparse
import http.client
import json
import random
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.processes import LOOPBACK, Started, free_port
from tests.redis_server import redis_server

ENGINES, GATEWAYS = 4, 3
CONVERSATIONS, TURNS = 24, 6
TURN_BYTES: Final = 3_000
START_SECONDS: Final = 120.0


@dataclass(frozen=True, slots=True)
class Run:
    """Gateways, and whether they tell each other."""

    name: str
    gateways: int
    share: bool = False


RUNS: Final = (
    Run("one gateway", 1), Run("three that share", GATEWAYS, share=True), Run("three that share nothing", GATEWAYS),
)  # fmt: skip


def started(folder: Path, run: Run, redis: str) -> tuple[Started, int]:
    """`local`, and its port."""
    settings, log = folder / "settings.yaml", folder / "local.log"
    settings.write_text(json.dumps({"routing": {"share": True}, "redis": {"url": redis}} if run.share else {}))
    local = Started("local", (
        sys.executable, "-m", "aibrix_extproc", "local", "--port", "0", "--envoy-admin-port", str(free_port()),
        "--workers", str(run.gateways), "--engines", str(ENGINES), "--config", str(settings), "--no-metadata", "--json",
        "--simulate=--enable-prompt-tokens-details --record-requests 0 --max-model-len 65536",
    ), log)  # fmt: skip
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        local.check()
        for line in log.read_text(errors="replace").splitlines():
            if line.startswith("{"):
                return local, int(json.loads(line)["base_url"].split(":")[2].split("/")[0])
        time.sleep(0.2)
    raise RuntimeError(local.last_words())


def found(port: int, prompt: str) -> tuple[int, int]:
    """Tokens of a prompt that were in the cache of its engine, and all of them. A new connection: any gateway."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=60)
    try:
        body = json.dumps({"model": "sim-chat", "prompt": prompt, "max_tokens": 1})
        connection.request("POST", "/v1/completions", body, {"content-type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
        if answer.status != http.client.OK:
            raise RuntimeError(text[:500])
    finally:
        connection.close()
    usage = json.loads(text)["usage"]
    return (usage["prompt_tokens_details"] or {}).get("cached_tokens") or 0, usage["prompt_tokens"]


def hit_rate(port: int, seed: int) -> tuple[float, float]:
    """The part of the tokens that was cached, and of those that had been sent before."""
    draw = random.Random(seed)
    turns = [number for number in range(CONVERSATIONS) for _ in range(TURNS)]
    draw.shuffle(turns)
    prompts = [f"{seed}-{number} ".ljust(TURN_BYTES, "x") for number in range(CONVERSATIONS)]
    begun: set[int] = set()
    cached = tokens = before = 0
    for number in turns:
        had, all_tokens = found(port, prompts[number])
        cached, tokens = cached + had, tokens + all_tokens
        before += all_tokens * (len(prompts[number]) - TURN_BYTES) // len(prompts[number]) if number in begun else 0
        begun.add(number)
        prompts[number] += f"{draw.random()} ".ljust(TURN_BYTES, "y")
    return cached / tokens, cached / before


def main() -> int:
    """Every run; a table of them."""
    parser = argparse.ArgumentParser(prog="make bench-sharing", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    seed = parser.parse_args().seed
    print(f"{CONVERSATIONS} conversations of {TURNS} turns over {ENGINES} engines, one request at a time\n")
    print("| gateways | of all tokens cached | of those sent before |\n| --- | ---: | ---: |", flush=True)
    with redis_server() as redis:
        for run in RUNS:
            with tempfile.TemporaryDirectory() as folder:
                local, port = started(Path(folder), run, redis.url)
                try:
                    rates = hit_rate(port, seed)
                finally:
                    local.stop()
                print(f"| {run.name} | " + " | ".join(f"{rate:.0%}" for rate in rates) + " |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
