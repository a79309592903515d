"""Peers that disappear without FIN or RST: a network of their own, whose address is taken away from them."""

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator

import pytest
import uvloop

from aibrix_extproc.http2.server import GrpcServer
from aibrix_extproc.tls.credentials import ServerCredentials
from aibrix_extproc.tls.self_signed import make_pair
from tests.http2.rig import Log, echo_methods
from tests.waiting import until

GONE_SECONDS = 30.0  # by TCP_USER_TIMEOUT, and by three probes after a silence of 15
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not shutil.which("ip") or os.geteuid() != 0,
        reason="needs a network of its own: run it as root, with the package iproute2",
    ),
]


def run(command: str) -> str:
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"needs a network of its own, as root: {done.stderr.strip()}")
    return done.stdout


class Network:
    """A pair of interfaces; the other end lies in a namespace."""

    def __init__(self) -> None:
        number = os.getpid() % 50_000
        self.namespace, self._near, self._far = f"vanish{number}", f"vn{number}", f"vf{number}"
        net = f"10.{200 + number // 250 // 200}.{number // 250 % 200}"
        self.address, self._other = f"{net}.{number % 125 * 2}", f"{net}.{number % 125 * 2 + 1}"

    def make(self) -> None:
        inside = f"ip netns exec {self.namespace}"
        run(f"ip netns add {self.namespace}")
        run(f"ip link add {self._near} type veth peer name {self._far} netns {self.namespace}")
        run(f"ip addr add {self.address}/31 dev {self._near} && ip link set {self._near} up")
        run(f"{inside} ip addr add {self._other}/31 dev {self._far} && {inside} ip link set {self._far} up")
        # What is sent to it shall be lost, not found to be undeliverable.
        far = run(f"{inside} cat /sys/class/net/{self._far}/address").strip()
        run(f"ip neigh replace {self._other} lladdr {far} dev {self._near} nud permanent")

    def lose(self) -> None:
        run(f"ip netns exec {self.namespace} ip addr del {self._other}/31 dev {self._far}")

    def remove(self) -> None:
        subprocess.run(f"ip link del {self._near}; ip netns del {self.namespace}", shell=True, capture_output=True)


@contextlib.asynccontextmanager
async def clients(network: Network, port: int, tls_port: int) -> AsyncIterator[dict[int, str]]:
    """What each connection is, by its port."""
    process = await asyncio.create_subprocess_exec(
        *("ip", "netns", "exec", network.namespace, sys.executable, "-m", "tests.http2.vanishing"),
        *(network.address, str(port), str(tls_port)),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    kinds: dict[int, str] = {}
    try:
        async with asyncio.timeout(60):
            while (line := (await process.stdout.readline()).decode().strip()) != "ready":
                number, _, kind = line.partition(" ")
                kinds[int(number)] = kind
        yield kinds
    finally:
        process.kill()
        await process.communicate()


async def _vanish() -> None:
    log, network = Log(), Network()
    servers = [GrpcServer(echo_methods(log), max_message_bytes=1_000_000) for _ in range(2)]
    credentials = ServerCredentials(make_pair(["localhost"]))
    try:
        network.make()
        port = await servers[0].start(network.address, 0)
        tls_port = await servers[1].start(network.address, 0, credentials)
        async with clients(network, port, tls_port) as kinds:
            await until(lambda: log.messages.count(b"wait") == 2 and sum(one.running for one in servers) == 5)
            network.lose()
            log.gate.set()  # answers that nobody acknowledges
            await until(lambda: not any(one.connections for one in servers), seconds=GONE_SECONDS + 15)
            assert len(kinds) == 7
            assert len(log.outcomes) == log.opened == 5
    finally:
        network.remove()
        for one in servers:
            await one.drain(0.0)


def test_connections_whose_peer_has_vanished_are_collected_with_all_that_they_held() -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_vanish())
