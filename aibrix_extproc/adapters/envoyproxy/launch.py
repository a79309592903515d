"""Start a program that dies with its parent: `launch.py PARENT_PID HOW COMMAND...`; run as a script, imports nothing.

Linux delivers a signal when the parent dies (HOW is "signal"); the setting survives exec, so the program takes this
process's place. Doing the same between fork and exec would run Python code in a forked copy of a threaded program.
Elsewhere (HOW is "watch") this process stays, passes signals on and checks its parent twice a second.
"""

import ctypes
import os
import signal
import sys
import time

_PR_SET_PDEATHSIG = 1
_WATCH_SECONDS = 0.5


def _die_with_parent() -> None:
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _watch(parent: int, command: list[str]) -> int:
    child = os.posix_spawnp(command[0], command, os.environ)  # noqa: TID251 - handed on, not read
    for passed_on in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(passed_on, lambda number, _frame: os.kill(child, number))
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if os.getppid() != parent:
            os.kill(child, signal.SIGKILL)
        time.sleep(_WATCH_SECONDS)


def main(arguments: list[str]) -> int:
    """Become, or watch over, the command; the exit code matters only for the latter."""
    parent, how, command = int(arguments[0]), arguments[1], arguments[2:]
    if how == "watch":
        code = _watch(parent, command)
        return code if code >= 0 else 128 - code
    _die_with_parent()
    if os.getppid() != parent:  # it died before the line above
        return 1
    try:
        os.execvp(command[0], command)
    except OSError as error:
        sys.stderr.write(f"cannot run {command[0]}: {error.strerror}\n")
        return 127


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
