"""What a gateway reports to a worker of batches with each answer, as a header: its name, others' requests, engines."""

import re
from dataclasses import dataclass
from typing import Final

_FORM: Final = re.compile(r"([0-9a-f]{1,16}) ([0-9]{1,6}) ([0-9]{1,6})")


@dataclass(frozen=True, slots=True)
class EngineLoadReport:
    """`others`: requests that are no lines of batches, and that the gateway has with the ready engines of the model."""

    gateway: str
    others: int
    engines: int


def written(report: EngineLoadReport) -> str:
    """The header's value."""
    return f"{report.gateway} {report.others} {report.engines}"


def read(value: str | None) -> EngineLoadReport | None:
    """The report; None if there is none, or none of ours."""
    found = _FORM.fullmatch(value or "")
    return None if found is None else EngineLoadReport(found[1], int(found[2]), int(found[3]))
