"""The ports that tests choose themselves."""

import os
import socket

from tests.ports import LOWEST, free_port


def test_ports_are_free_below_those_of_the_kernel_and_come_once() -> None:
    with socket.socket() as given:
        given.bind(("127.0.0.1", 0))
        ports = [free_port() for _ in range(20)]
        assert len(set(ports)) == 20
        assert all(LOWEST <= port < 65_536 for port in ports)
        assert given.getsockname()[1] not in ports


def test_port_in_use_is_passed_over() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", free_port() + 1))
        assert free_port() != taken.getsockname()[1]


def test_fork_chooses_others() -> None:
    mine = free_port()
    read, write = os.pipe()
    if (pid := os.fork()) == 0:
        os.write(write, b"%d" % free_port())
        os._exit(0)
    os.waitpid(pid, 0)
    os.close(write)
    with os.fdopen(read) as said:
        assert abs(int(said.read()) - mine) > 1
