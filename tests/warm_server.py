"""The process that imports everything and forks on demand: `python -m tests.warm_server SOCKET SESSION_PID`."""

import atexit
import contextlib
import ctypes
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

from tests.type_hints import keep_type_hints
from tests.warm_client import PYTHON_VARIABLE

IMPORTED: Final = (
    "aibrix_extproc.app.gateway", "aibrix_extproc.cli.serve", "aibrix_extproc.cli.picker",
    "aibrix_extproc.app.local.run", "aibrix_extproc.app.metadata.service",
    "aibrix_extproc.adapters.envoyproxy.configure", "aibrix_extproc.tls.authority",
    "aibrix_extproc.simulator.cli", "aibrix_extproc.simulator.server", "openai", "openai.resources.chat",
    "openai.resources.models", "uvloop",
)  # fmt: skip
_PR_SET_PDEATHSIG: Final = 1


@dataclass(frozen=True, slots=True)
class Job:
    """What a fork shall be."""

    words: list[str]
    environment: dict[str, str]
    folder: str
    descriptors: list[int]


class Server:
    """One connection for each fork: the job in, its pid and its exit code out. A fork dies with its connection."""

    def __init__(self, path: str) -> None:
        self._selector = selectors.DefaultSelector()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen(64)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._wake, wakeup = socket.socketpair()
        self._wake.setblocking(False)
        wakeup.setblocking(False)
        self._wakeup = wakeup
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._pids: dict[socket.socket, int] = {}
        signal.set_wakeup_fd(wakeup.fileno())
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def run(self) -> Job:
        """Serve for ever; returns in the forks only."""
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._listener:
                    job = self._fork(self._listener.accept()[0])
                    if job is not None:
                        return job
                elif key.fileobj is self._wake:
                    with contextlib.suppress(BlockingIOError):
                        self._wake.recv(1024)
                    self._reap()
                elif key.fileobj in self._pids:
                    os.kill(self._pids[key.fileobj], signal.SIGKILL)
                    self._selector.unregister(key.fileobj)

    def _fork(self, connection: socket.socket) -> Job | None:
        """Fork for a client, which may be killed at any moment."""
        size, descriptors, _, _ = socket.recv_fds(connection, 4, 3)
        with connection.makefile("rb") as stream:
            text = stream.read(int.from_bytes(size))
        if not size or len(text) < int.from_bytes(size):
            for descriptor in descriptors:
                os.close(descriptor)
            connection.close()
            return None
        if (pid := os.fork()) == 0:
            self._leave()
            connection.close()
            return Job(**json.loads(text), descriptors=list(descriptors))
        for descriptor in descriptors:
            os.close(descriptor)
        with contextlib.suppress(OSError):  # it is gone: what it leaves to be read has the fork killed
            connection.sendall(b"%d\n" % pid)
        self._pids[connection] = pid
        self._selector.register(connection, selectors.EVENT_READ)
        return None

    def _leave(self) -> None:
        """Close in a fork what is the server's."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._selector.close()
        for one in (self._listener, self._wake, self._wakeup, *self._pids):
            one.close()

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                connection = next(one for one, pid in self._pids.items() if pid == ended[0])
                del self._pids[connection]
                with contextlib.suppress(OSError):
                    connection.sendall(b"%d\n" % os.waitstatus_to_exitcode(ended[1]))
                with contextlib.suppress(KeyError):
                    self._selector.unregister(connection)
                connection.close()


def become(job: Job, parent: int) -> None:
    """Be the module: a session, files, an environment and arguments of its own."""
    die_with(parent)
    os.setsid()
    for number, descriptor in enumerate(job.descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()  # noqa: TID251 - it becomes what a new process would have been given
    os.environ.update(job.environment)  # noqa: TID251
    os.chdir(job.folder)
    sys.executable = os.environ.pop(PYTHON_VARIABLE, sys.executable)  # noqa: TID251
    signal.signal(signal.SIGINT, signal.default_int_handler)
    module, *arguments = job.words
    sys.argv[1:] = arguments
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def die_with(parent: int) -> None:
    """Ask the kernel for SIGKILL at the parent's end."""
    prctl: Any = ctypes.CDLL(None, use_errno=True).prctl
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def _configure_an_envoy() -> None:
    """The first configuration takes a second longer than the next ones, which the forks of `local` make."""
    from aibrix_extproc.adapters.envoyproxy.configure import configuration
    from aibrix_extproc.adapters.envoyproxy.spec import EnvoySpec, SocketAddress

    anywhere = SocketAddress("127.0.0.1", 1)
    configuration(EnvoySpec(listen=anywhere, admin=anywhere, processors=(anywhere,), endpoints_directory=Path("/")))


def leave(code: int) -> NoReturn:
    """End as an interpreter does, but without freeing what was imported, which takes half a second."""
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads, and runs what they registered
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def exit_code(end: SystemExit) -> int:
    """The exit code of a SystemExit; a text goes to standard error."""
    if end.code is None or isinstance(end.code, int):
        return end.code or 0
    sys.stderr.write(f"{end.code}\n")
    return 1


def main(path: str, session: int) -> None:
    """Import, then fork on demand. A fork leaves through here as well."""
    die_with(session)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C at the terminal is for pytest, which ends us
    for name in IMPORTED:
        importlib.import_module(name)
    keep_type_hints()
    _configure_an_envoy()
    gc.collect()
    gc.freeze()
    own = os.getpid()
    server = Server(path)
    os.write(1, b"listening\n")
    job = server.run()
    try:
        become(job, own)
    except SystemExit as end:
        leave(exit_code(end))
    leave(0)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
