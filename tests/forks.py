"""Runs tests in forks of the process that collected them: `python -m pytest -p tests.forks --forks 4`.

Collecting all tests takes ten seconds of CPU. Workers that collect for themselves spend them once each, and twice that
on a fresh clone, where all of them rewrite the same assertions. A fork has the tests already.

Each fork gets one batch after another: tests that share a fixture of their module, the quick tests of a module, or one
slow test. Slow ones come first, so that no fork is left alone with one at the end. A fork that dies fails the test that
it ran, and another one goes on. Warnings of forks are not told; here they are errors anyway.
"""

import contextlib
import os
import pickle
import selectors
import socket
import struct
import sys
import traceback
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any, Final, NoReturn

import pytest

_SIZE: Final = struct.Struct("!q")
_SHARED: Final = ("module", "class", "package")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--forks", type=int, default=0, help="run the tests in so many processes")


@pytest.hookimpl(wrapper=True)
def pytest_cmdline_main(config: pytest.Config) -> Iterator[None]:
    """Leave it to pytest-xdist where libraries of the system do not bear forks, as on macOS."""
    forks = config.getoption("--forks")
    if forks and sys.platform != "linux":
        config.option.forks, config.option.numprocesses, config.option.dist = 0, forks, "worksteal"
    return (yield)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    forks = session.config.getoption("--forks")
    broken = session.testsfailed and not session.config.option.continue_on_collection_errors
    if not forks or broken or session.config.option.collectonly:
        return None
    Distribution(session, forks).run()
    return True


def batches_of(items: list[pytest.Item]) -> list[list[int]]:
    """The numbers of the tests that run one after another, in the order in which forks get them."""
    modules = [[*found] for _, found in groupby(range(len(items)), lambda number: items[number].path)]
    batches: list[tuple[int, list[int]]] = []
    for module in modules:
        slow = [number for number in module if items[number].get_closest_marker("slow")]
        if any(_shares(items[number]) for number in module):
            batches.append((len(slow), module))
            continue
        batches.extend((1, [number]) for number in slow)
        if quick := sorted({*module} - {*slow}):
            batches.append((0, quick))
    return [batch for _, batch in sorted(batches, key=lambda found: -found[0])]


def _shares(item: pytest.Item) -> bool:
    """Whether it uses a fixture that other tests of its module use as well."""
    fixtures = item._fixtureinfo.name2fixturedefs.values() if isinstance(item, pytest.Function) else ()
    return any(found.scope in _SHARED for defs in fixtures for found in defs)


class Fork:
    """One process, and what it has been given."""

    def __init__(self, number: int, session: pytest.Session, others: Iterable["Fork"]) -> None:
        self.number = number
        self.left: deque[list[int]] = deque()  # batches that it has not ended
        self.running: int | None = None
        self._told = False
        self.socket, theirs = socket.socketpair()
        self.pid = os.fork()
        if self.pid == 0:
            for one in (self, *others):
                one.socket.close()
            _work(session, theirs, number)
        theirs.close()
        self._read = bytearray()

    def give(self, batch: list[int] | None) -> None:
        """The next batch; None if there is none."""
        if batch is not None:
            self.left.append(batch)
        if not self._told:
            self._told = batch is None
            with contextlib.suppress(ConnectionError):  # of its end the reader hears, behind all that it has said
                _send(self.socket, batch)

    def messages(self) -> Iterator[tuple[str, Any]]:
        """What it has said; EOFError if it has ended."""
        piece = self.socket.recv(1 << 20)
        if not piece:
            raise EOFError
        self._read += piece
        while len(self._read) >= _SIZE.size:
            (size,) = _SIZE.unpack_from(self._read)
            if len(self._read) < _SIZE.size + size:
                break
            message = pickle.loads(bytes(self._read[_SIZE.size : _SIZE.size + size]))
            del self._read[: _SIZE.size + size]
            yield message


class Distribution:
    """Gives batches to forks, and hands their reports to pytest."""

    def __init__(self, session: pytest.Session, forks: int) -> None:
        self._session = session
        self._hook = session.config.hook
        self._batches = deque(batches_of(session.items))
        self._wanted = min(forks, len(self._batches))
        self._forks: dict[int, Fork] = {}
        self._selector = selectors.DefaultSelector()
        reporter = session.config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.showfspath = False  # reports of several files come in turns

    def run(self) -> None:
        """Return when all tests have been run. Raises what pytest raises if it is to stop earlier."""
        try:
            for number in range(self._wanted):
                self._start(number)
            while self._forks:
                for key, _ in self._selector.select():
                    self._hear(key.data)
                if self._session.shouldfail:
                    raise self._session.Failed(self._session.shouldfail)
                if self._session.shouldstop:
                    raise self._session.Interrupted(self._session.shouldstop)
        finally:
            for fork in self._forks.values():
                fork.socket.close()  # it ends behind its test
            for fork in self._forks.values():
                os.waitpid(fork.pid, 0)

    def _start(self, number: int) -> None:
        fork = Fork(number, self._session, self._forks.values())
        self._forks[number] = fork
        self._selector.register(fork.socket, selectors.EVENT_READ, fork)
        for _ in range(2):  # a fork tears down by what comes next, so it is always told one ahead
            self._give(fork)

    def _give(self, fork: Fork) -> None:
        fork.give(self._batches.popleft() if self._batches else None)

    def _hear(self, fork: Fork) -> None:
        try:
            for kind, value in fork.messages():
                if kind == "start":
                    fork.running = value
                elif kind == "batch":
                    fork.left.popleft()
                    self._give(fork)
                else:
                    self._report(self._hook.pytest_report_from_serializable(config=self._session.config, data=value))
        except (EOFError, ConnectionError):
            self._end(fork)

    def _report(self, report: Any) -> None:
        self._hook.pytest_runtest_logreport(report=report)
        if report.when == "teardown":
            self._hook.pytest_runtest_logfinish(nodeid=report.nodeid, location=report.location)

    def _end(self, fork: Fork) -> None:
        self._selector.unregister(fork.socket)
        fork.socket.close()
        del self._forks[fork.number]
        _, status = os.waitpid(fork.pid, 0)
        if not fork.left:
            return
        code = os.waitstatus_to_exitcode(status)
        ended, *others = fork.left
        if fork.running is not None:
            item = self._session.items[fork.running]
            text = f"the process that ran it ended with {code}"
            for when, outcome, words in (("call", "failed", text), ("teardown", "passed", None)):
                self._report(
                    pytest.TestReport(item.nodeid, item.location, {}, outcome, words, when)  # type: ignore[arg-type]
                )
            ended = ended[ended.index(fork.running) + 1 :]
        self._batches.extendleft(batch for batch in reversed([ended, *others]) if batch)
        if self._batches:
            self._start(fork.number)


def _send(to: socket.socket, message: object) -> None:
    data = pickle.dumps(message)
    to.sendall(_SIZE.pack(len(data)) + data)


def _receive(source: socket.socket) -> Any:
    (size,) = _SIZE.unpack(_exactly(source, _SIZE.size))
    return pickle.loads(_exactly(source, size))


def _exactly(source: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        piece = source.recv(size - len(found))
        if not piece:
            raise EOFError
        found += piece
    return found


class _Sender:
    """Sends the reports of a fork."""

    def __init__(self, config: pytest.Config, to: socket.socket) -> None:
        self._config, self._to = config, to

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        data = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        _send(self._to, ("report", data))


def _work(session: pytest.Session, to: socket.socket, number: int) -> NoReturn:
    """Run what is given, as a fork, and end."""
    code = 1
    try:
        _be_a_fork(session, to, number)
        _run_batches(session, to)
        code = 0
    except (EOFError, ConnectionError, KeyboardInterrupt):  # the parent has heard enough
        code = 0
        session._setupstate.teardown_exact(None)
    finally:
        if code:
            traceback.print_exc()
        os._exit(code)


def _be_a_fork(session: pytest.Session, to: socket.socket, number: int) -> None:
    config = session.config
    capture: Any = config.pluginmanager.get_plugin("capturemanager")
    capture.stop_global_capturing()
    with open(os.devnull, "wb") as nothing:  # what pytest says here is said by the parent
        os.dup2(nothing.fileno(), 1)
    capture.start_global_capturing()
    capture.suspend_global_capture()
    config.pluginmanager.register(_Sender(config, to))
    factory = config._tmp_path_factory  # type: ignore[attr-defined]
    factory._basetemp = factory.getbasetemp() / f"fork-{number}"
    factory._basetemp.mkdir(exist_ok=True)


def _run_batches(session: pytest.Session, to: socket.socket) -> None:
    hook = session.config.hook
    batch, following = _receive(to), None
    while batch is not None:
        for place, number in enumerate(batch):
            if place + 1 < len(batch):
                nextitem = session.items[batch[place + 1]]
            else:
                following = _receive(to)
                nextitem = session.items[following[0]] if following else None
            _send(to, ("start", number))
            hook.pytest_runtest_protocol(item=session.items[number], nextitem=nextitem)
        _send(to, ("batch", None))
        batch = following
