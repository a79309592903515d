"""Checks of what running metadata services say of themselves."""

from collections.abc import Iterable, Iterator
from typing import Final

from aibrix_extproc.doctor.finding import Finding, Severity
from aibrix_extproc.doctor.fleet_checks import Report
from aibrix_extproc.doctor.objects import at

_GOOD: Final = "ok"
_STORAGE: Final = {
    "database": "see its address, user and password in the Secret aibrix-extproc-metadata, or the room on the volume",
    "blobs": "see the URL in the Secret aibrix-extproc-metadata, the store's credentials, or the room on the volume",
}


def states(found: Iterable[Report]) -> Iterator[Finding]:
    """Storage that cannot be used, and keys that cannot be read. A service that says nothing is left to its probes."""
    for report in found:
        if report.error:
            continue
        for part, fix in _STORAGE.items():
            said = at(report.health, part)
            if isinstance(said, str) and said != _GOOD:
                yield Finding(
                    Severity.ERROR, report.subject, f"/readyz {part}",
                    f"it cannot use its {part}: {said}; files, uploads and batches are 503 storage_unavailable", fix,
                )  # fmt: skip
        if at(report.health, "caller_keys.ok") is False:
            yield Finding(
                Severity.WARNING, report.subject, "/readyz caller_keys",
                "its file of note keys is broken: the last good ones are in use until it restarts",
                "correct the Secret aibrix-extproc-note-keys: one key a line, of 32 characters or more",
            )  # fmt: skip
