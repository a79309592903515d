"""Free ports for the processes of `local`: all are taken at once, so that no two of them get the same one."""

import random
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from aibrix_extproc.adapters.envoyproxy.spec import SocketAddress
from aibrix_extproc.app.local.errors import LocalError

LOOPBACK: Final = "127.0.0.1"
_TRIES: Final = 50
_LOWEST: Final = 10_240
_EPHEMERAL: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")


def reserve(address: SocketAddress, option: str, taken: list[socket.socket]) -> int:
    """The port, 0 made a free one; kept bound until the plan is made, so that no two parts get the same one.

    Checked here because two Envoys on one port would not fail: they would share its connections.
    """
    for port in _candidates() if address.port == 0 else ():
        try:
            return _bound(SocketAddress(address.host, port), taken)
        except OSError:
            continue
    try:
        return _bound(address, taken)
    except PermissionError as error:
        raise LocalError(f"Port {address.port} may not be used by this user; choose one with {option}.") from error
    except OSError as error:
        raise LocalError(
            f"Cannot listen on {address}: {(error.strerror or str(error)).lower()}; choose another port with {option}."
        ) from error


def _candidates() -> Iterable[int]:
    """Ports that the system gives to nobody who asks for any: what is free now will be when it is used."""
    try:
        end = int(_EPHEMERAL.read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return ()
    return random.sample(range(_LOWEST, end), _TRIES) if end >= _LOWEST + _TRIES else ()


def _bound(address: SocketAddress, taken: list[socket.socket]) -> int:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    probe = socket.socket(family, socket.SOCK_STREAM)
    taken.append(probe)
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    probe.bind((address.host, address.port))
    probe.listen(1)  # without it a second bind would succeed as well
    return int(probe.getsockname()[1])


def free_port(taken: list[socket.socket]) -> int:
    """A free port."""
    return reserve(SocketAddress(LOOPBACK, 0), "--port", taken)
