"""Runs cases side by side, each in a thread of its own and within its time, whatever the deployment does to it."""

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from aibrix_extproc.conformance import sdk
from aibrix_extproc.conformance.bench import Bench
from aibrix_extproc.conformance.case import Case, Inapplicable, Limited, Mismatch, Result, Verdict
from aibrix_extproc.conformance.masking import Mask
from aibrix_extproc.conformance.table import group_of
from aibrix_extproc.conformance.target import Deployment, Target

TOO_MANY: Final = "the deployment limits requests; ask again with --concurrency 1, or lift its limits: "


@dataclass(frozen=True, slots=True)
class _Running:
    bench: Bench
    started_at: float
    seconds: float

    @property
    def ends_at(self) -> float:
        return self.started_at + self.seconds


class Run:
    """One run over chosen cases; `on_result` sees each result as it comes, in no order."""

    def __init__(
        self, target: Target, deployment: Deployment, *, concurrency: int, on_result: Callable[[Result], None]
    ) -> None:
        self._target = target
        self._deployment = deployment
        self._concurrency = concurrency
        self._on_result = on_result
        self._mask = Mask(target.secrets)
        self._running: dict[Case, _Running] = {}
        self._ended: queue.SimpleQueue[Result] = queue.SimpleQueue()
        self._results: dict[str, Result] = {}

    def over(self, cases: Sequence[Case]) -> tuple[Result, ...]:
        """All results, in the order of the cases."""
        waiting = deque(cases)
        while waiting or self._running:
            while waiting and self._has_room(waiting[0]):
                self._start(waiting.popleft())
            self._collect()
        return tuple(self._results[case.id] for case in cases)

    def _has_room(self, case: Case) -> bool:
        if case.is_alone or any(one.is_alone for one in self._running):
            return not self._running
        return len(self._running) < self._concurrency

    def _start(self, case: Case) -> None:
        if reason := self._lack(case):
            self._finish(Result(case, group_of(case), Verdict.SKIP, 0, case.expected, reason=reason))
            return
        seconds = self._target.seconds * case.time_factor
        running = _Running(Bench(self._target, self._deployment, seconds), time.monotonic(), seconds)
        self._running[case] = running
        # A daemon: what a deployment keeps hanging must not keep the program from its end.
        threading.Thread(target=self._judge, args=(case, running), name=case.id, daemon=True).start()

    def _lack(self, case: Case) -> str:
        return next((why for need in case.needs if (why := self._deployment.lacks(need, self._target))), "")

    def _judge(self, case: Case, running: _Running) -> None:
        expected, came, reason, root, verdict = case.expected, "", "", "", Verdict.FAIL
        try:
            case.check(running.bench)
            verdict = Verdict.PASS
        except Mismatch as mismatch:
            expected, came, root = mismatch.expected, mismatch.came, mismatch.root
        except Limited as found:
            reason, verdict = f"{TOO_MANY}{found}", Verdict.SKIP
        except Inapplicable as found:
            reason, verdict = str(found), Verdict.SKIP
        except Exception as error:  # noqa: BLE001 - whatever a stranger's answer makes of a case is its result
            came = sdk.described(error)
            if sdk.is_limit(error):
                came, reason, verdict = "", f"{TOO_MANY}{came}", Verdict.SKIP
        finally:
            running.bench.close()
        spent = round((time.monotonic() - running.started_at) * 1000)
        texts = (self._mask(expected), self._mask(came), self._mask(reason), root)
        self._ended.put(Result(case, group_of(case), verdict, spent, *texts))

    def _collect(self) -> None:
        """Take one result, or end the cases whose time is over."""
        if not self._running:
            return
        next_end = min(running.ends_at for running in self._running.values())
        try:
            result = self._ended.get(timeout=max(next_end - time.monotonic(), 0.001))
        except queue.Empty:
            self._expire()
            return
        if self._running.pop(result.case, None):  # else it came too late
            self._finish(result)

    def _expire(self) -> None:
        now = time.monotonic()
        for case, running in list(self._running.items()):
            if now >= running.ends_at:
                del self._running[case]
                running.bench.close()
                came = f"no end within {running.seconds:g} s"
                spent = round(running.seconds * 1000)
                self._finish(Result(case, group_of(case), Verdict.FAIL, spent, case.expected, came))

    def _finish(self, result: Result) -> None:
        self._results[result.case.id] = result
        self._on_result(result)
