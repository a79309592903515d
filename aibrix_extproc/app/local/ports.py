"""Free ports for the processes of `local`: all are taken at once, so that no two of them get the same one."""

import socket
from typing import Final

from aibrix_extproc.adapters.envoyproxy.spec import SocketAddress
from aibrix_extproc.app.local.errors import LocalError

LOOPBACK: Final = "127.0.0.1"
DEFAULT_ENVOY_ADMIN_PORT: Final = 9901


def reserve(address: SocketAddress, option: str, taken: list[socket.socket]) -> int:
    """The port, 0 made a free one; kept bound until the plan is made, so that no two parts get the same one.

    Checked here because two Envoys on one port would not fail: they would share its connections.
    """
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    probe = socket.socket(family, socket.SOCK_STREAM)
    taken.append(probe)
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        probe.bind((address.host, address.port))
        probe.listen(1)  # without it a second bind would succeed as well
    except PermissionError as error:
        raise LocalError(f"Port {address.port} may not be used by this user; choose one with {option}.") from error
    except OSError as error:
        raise LocalError(
            f"Cannot listen on {address}: {(error.strerror or str(error)).lower()}; choose another port with {option}."
        ) from error
    return int(probe.getsockname()[1])


def free_port(taken: list[socket.socket]) -> int:
    """A free port."""
    return reserve(SocketAddress(LOOPBACK, 0), "--port", taken)


def envoy_admin_port(wanted: int | None, taken: list[socket.socket]) -> int:
    """A port that was asked for must be free; the default one gives way."""
    if wanted is not None:
        return reserve(SocketAddress(LOOPBACK, wanted), "--envoy-admin-port", taken)
    try:
        return reserve(SocketAddress(LOOPBACK, DEFAULT_ENVOY_ADMIN_PORT), "--envoy-admin-port", taken)
    except LocalError:
        return free_port(taken)
