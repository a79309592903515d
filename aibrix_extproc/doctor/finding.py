"""The result of a check: which object, which field, what a user would notice, and what to do."""

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """The severity of a finding."""

    ERROR = "error"  # requests fail, are cut, or reach what they must not
    WARNING = "warning"  # works now, and will not under load, on failure, or after an upgrade
    NOTE = "note"  # could not be checked, or worth knowing


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to change."""

    severity: Severity
    subject: str  # `Kind namespace/name`
    field: str  # path inside of the object, empty for the object itself
    notice: str  # what a user or an operator would notice
    fix: str
    check: str = ""  # which check found it; set by whoever runs them
