"""Follows a batch to its end: a bar with rate and time left at a terminal, a line now and then elsewhere."""

import sys
import time
from typing import TYPE_CHECKING, Final

from aibrix_extproc.cli.interruption import say

if TYPE_CHECKING:
    from openai import OpenAI
    from openai.types import Batch

ENDED: Final = ("completed", "failed", "expired", "cancelled")
_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 5.0
_LINE_SECONDS: Final = 30.0


def followed(client: "OpenAI", batch: "Batch") -> "Batch":
    """The ended batch. Ctrl-C leaves it running."""
    if not sys.stderr.isatty():
        return _in_lines(client, batch)
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rest]}"),
        TimeRemainingColumn(),
    )  # fmt: skip
    started, pause = time.monotonic(), _FIRST_PAUSE
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(batch.status, total=None, rest="")
        while True:
            total, done, failed = _counts(batch)
            rate = done / max(time.monotonic() - started, 0.001)
            rest = f"{failed} failed, {rate:.1f}/s"
            progress.update(task, description=batch.status, total=total or None, completed=done, rest=rest)
            if batch.status in ENDED:
                return batch
            time.sleep(pause)
            pause = min(pause * 1.2, _LONGEST_PAUSE)
            batch = client.batches.retrieve(batch.id)


def _in_lines(client: "OpenAI", batch: "Batch") -> "Batch":
    shown, shown_at, pause = "", 0.0, _FIRST_PAUSE
    while True:
        total, done, failed = _counts(batch)
        if batch.status != shown or time.monotonic() - shown_at > _LINE_SECONDS:
            say(f"{batch.status}: {done} of {total}, {failed} failed")
            shown, shown_at = batch.status, time.monotonic()
        if batch.status in ENDED:
            return batch
        time.sleep(pause)
        pause = min(pause * 1.2, _LONGEST_PAUSE)
        batch = client.batches.retrieve(batch.id)


def _counts(batch: "Batch") -> tuple[int, int, int]:
    counts = batch.request_counts
    return (counts.total, counts.completed + counts.failed, counts.failed) if counts else (0, 0, 0)
