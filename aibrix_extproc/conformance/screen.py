"""What the user sees: a line for each result as it comes, then a table. Plain text unless a terminal reads it."""

import os
import shutil
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final, TextIO

from aibrix_extproc.conformance.case import Case, Need, Result, Verdict, by_root
from aibrix_extproc.conformance.masking import Mask, bounded
from aibrix_extproc.conformance.table import group_of
from aibrix_extproc.conformance.target import OPTION, Deployment, Target

CAME_CHARACTERS: Final = 300
PLAIN_WIDTH: Final = 120
_COLOURS: Final[Mapping[Verdict, str]] = MappingProxyType(
    {Verdict.PASS: "32", Verdict.FAIL: "1;31", Verdict.SKIP: "33"}
)
_INDENT: Final = " " * 16


class Screen:
    """Writes to a stream."""

    def __init__(self, out: TextIO, *, total: int = 0) -> None:
        self._out = out
        self._is_terminal = out.isatty()
        self._has_colours = self._is_terminal and not os.environ.get("NO_COLOR")  # noqa: TID251 - asks from outside
        self._total = total
        self._count = 0

    @property
    def width(self) -> int:
        """Of a line."""
        return shutil.get_terminal_size((PLAIN_WIDTH, 24)).columns if self._is_terminal else PLAIN_WIDTH

    def say(self, text: str = "") -> None:
        """A line."""
        self._out.write(text + "\n")
        self._out.flush()

    def about(self, target: Target, deployment: Deployment, sdk_version: str) -> None:
        """What is tested with what."""
        mask = Mask(target.secrets)
        self.say(f"Conformance of {target.origin.base_url} with openai {sdk_version}")
        self.say(f"  API key: {'required' if deployment.wants_key else 'not required'}")
        for need in OPTION:
            self.say(f"  {need}: {mask(deployment.models[need]) if need in deployment.models else 'none'}")
        self.say()

    def progress(self, result: Result) -> None:
        """One result."""
        self._count += 1
        digits = len(str(self._total))
        head = f"[{self._count:{digits}}/{self._total}] {self._verdict(result.verdict)} {result.case.id:<8}"
        end = result.reason if result.verdict is Verdict.SKIP else f"{result.milliseconds} ms"
        self.say(f"{head} {result.case.title}  {end}")

    def table(self, results: Sequence[Result]) -> None:
        """All results, with what was expected and what came where that differs."""
        title_width = max(len(result.case.title) for result in results)
        roots = by_root(results)
        head = f"{'id':<8}  {'result':<6}  {'case':<{title_width}}  expected"
        self.say()
        self.say(head)
        self.say("-" * min(self.width, len(head) + 40))
        for result in results:
            first = roots[result.root][0] if result.root in roots else result
            self._row(result, first, title_width)
        self._roots(roots)

    def _roots(self, roots: Mapping[str, Sequence[Result]]) -> None:
        """Faults that several cases met, each once."""
        if roots:
            self.say()
            self.say("Faults that several cases have met:")
        for root, failures in roots.items():
            names = ", ".join(one.case.id for one in failures)
            for number, line in enumerate(textwrap.wrap(f"{root}: {len(failures)} cases ({names})", self.width - 4)):
                self.say(f"{'    ' if number else '  - '}{line}")

    def _row(self, result: Result, first: Result, title_width: int) -> None:
        head = f"{result.case.id:<8}  {self._verdict(result.verdict)}    {result.case.title:<{title_width}}  "
        plain = len(f"{result.case.id:<8}  pass    ") + title_width + 2
        self.say(head + bounded(result.case.expected, max(self.width - plain, 24)))
        if first is not result:
            self._detail("as in", f"{first.case.id}: {result.root}")
        elif result.verdict is Verdict.FAIL:
            self._detail("expected", result.expected)
            self._detail("came", result.came)
        elif result.verdict is Verdict.SKIP:
            self._detail("because", result.reason)

    def _detail(self, label: str, text: str) -> None:
        lines = textwrap.wrap(
            bounded(text, CAME_CHARACTERS), self.width - len(_INDENT) - 10, break_on_hyphens=False
        ) or ["(nothing)"]
        for number, line in enumerate(lines):
            self.say(f"{_INDENT}{label if not number else '':<8}  {line}")

    def summary(self, results: Sequence[Result], seconds: float) -> None:
        """The last line."""
        counts = Counter(result.verdict for result in results)
        words = {Verdict.PASS: "passed", Verdict.FAIL: "failed", Verdict.SKIP: "skipped"}
        said = ", ".join(f"{counts[verdict]} {word}" for verdict, word in words.items())
        shared = by_root(results)
        if shared:
            apart = counts[Verdict.FAIL] - sum(map(len, shared.values()))
            said += f" ({len(shared) + apart} different faults)"
        self.say()
        self.say(f"{said} in {seconds:.1f} s")

    def cases(self, cases: Sequence[Case]) -> None:
        """The cases instead of results."""
        for case in cases:
            needs = ", ".join(needs_of(case)) or "nothing"
            self.say(f"{case.id:<8}  {group_of(case):<11}  {case.title}: {case.expected} (needs {needs})")

    def _verdict(self, verdict: Verdict) -> str:
        return f"\x1b[{_COLOURS[verdict]}m{verdict:<4}\x1b[0m" if self._has_colours else f"{verdict:<4}"


def needs_of(case: Case) -> list[str]:
    """What a case needs, in words."""
    needs: list[Need] = list(case.needs)
    return [str(need) for need in needs] + (["large bodies (not with --quick)"] if case.is_large else [])
