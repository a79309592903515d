"""Asks the process of `tests.warm_server` for a fork. As a script it is the fork's stand-in: it imports little."""

import json
import os
import signal
import socket
import sys

PYTHON_VARIABLE = "WARM_PYTHON"  # what a fork takes for its interpreter


class Forked:
    """A fork with these words as `python -m`'s, and its exit code. It dies when this is closed, or its owner ends."""

    def __init__(
        self, path: str, words: list[str], descriptors: tuple[int, ...], environment: dict[str, str], folder: str
    ) -> None:
        job = json.dumps({"words": words, "environment": environment, "folder": folder}).encode()
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(path)
        socket.send_fds(self._socket, [len(job).to_bytes(4)], descriptors)
        self._socket.sendall(job)
        self._lines = b""
        self.pid = int(self._line(0) or 0)

    def exit_code(self, *, block: bool) -> "int | None":
        """The exit code, negative for a signal; None if it still runs."""
        line = self._line(0 if block else socket.MSG_DONTWAIT)
        return None if line is None else int(line)

    def _line(self, flags: int) -> "bytes | None":
        while b"\n" not in self._lines:
            try:
                piece = self._socket.recv(64, flags)
            except BlockingIOError:
                return None
            if not piece:
                return b"-9"  # the process that forks is gone, and the fork with it
            self._lines += piece
        line, _, self._lines = self._lines.partition(b"\n")
        return line


def main(path: str, words: "list[str]") -> None:
    """Run the words to their end, and end the same way."""
    forked = Forked(path, words, (0, 1, 2), dict(os.environ), os.getcwd())  # noqa: TID251 - handed on
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, lambda number, _: os.kill(forked.pid, number))
    code = forked.exit_code(block=True)
    if code is not None and code < 0:
        signal.signal(-code, signal.SIG_DFL) if -code != signal.SIGKILL else None
        os.kill(os.getpid(), -code)
    os._exit(code or 0)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
