"""A command at a terminal of its own, read and written as a person would."""

import asyncio
import os
import pty
import re
import signal
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

DEADLINE = 120.0
_STYLE = re.compile(r"\x1b\[[0-9;]*m")


class Terminal:
    """A process and what it has shown."""

    def __init__(self, process: subprocess.Popen[bytes], descriptor: int) -> None:
        self.process = process
        self.shown = ""
        self._descriptor = descriptor

    @property
    def plain(self) -> str:
        """What was shown, without colours."""
        return _STYLE.sub("", self.shown).replace("\r\n", "\n")

    def type(self, text: str) -> None:
        os.write(self._descriptor, text.encode())

    def interrupt(self) -> None:
        self.type("\x03")

    async def until(self, text: str, *, after: int = 0) -> int:
        """Wait until it shows the text; returns where that ends."""
        try:
            async with asyncio.timeout(DEADLINE):
                while (found := self.plain.find(text, after)) < 0:
                    if not await asyncio.to_thread(self._read):
                        raise AssertionError(f"it ended before {text!r}:\n{self.plain}")
        except TimeoutError as error:
            raise AssertionError(f"it does not show {text!r}:\n{self.plain}") from error
        return found + len(text)

    async def until_interrupted(self, text: str, *, after: int) -> int:
        """Press Ctrl-C until it shows the text. Python's readline may lose one that comes just before it waits."""
        reading = asyncio.create_task(self.until(text, after=after))
        while not reading.done():
            self.interrupt()
            await asyncio.wait([reading], timeout=5)
        return await reading

    async def ended(self) -> int:
        async with asyncio.timeout(DEADLINE):
            while await asyncio.to_thread(self._read):
                pass
            return await asyncio.to_thread(self.process.wait)

    def _read(self) -> bool:
        try:
            data = os.read(self._descriptor, 65536)
        except OSError:  # Linux' way to say that the other side is closed
            return False
        self.shown += data.decode("utf-8", "replace")
        return bool(data)


@asynccontextmanager
async def at_a_terminal(*command: str, **variables: str) -> AsyncIterator[Terminal]:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(  # noqa: ASYNC220 - starting is quick, and asyncio has no terminals
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment(variables), preexec_fn=_take
    )
    os.close(theirs)
    try:
        yield Terminal(process, ours)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait()
        os.close(ours)


def _take() -> None:
    """Make the terminal the process' own, so that Ctrl-C reaches it."""
    import fcntl
    import termios

    signal.signal(signal.SIGINT, signal.SIG_DFL)  # tests that run in the background may ignore it
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Ours without what would steer the SDK or colours."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "NO_COLOR", "FORCE_"))}  # noqa: TID251
    return {**kept, "TERM": "xterm-256color", **variables}
