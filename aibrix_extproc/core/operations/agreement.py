"""Makes one answer of the answers of several engines.

One engine: its answer as it is. Several that say the same: that answer. Several that do not: `partial_failure` if some
failed, `engines_disagree` if all succeeded with different answers; both name each engine with its result.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from aibrix_extproc.core.openai.contract.errors import Problem
from aibrix_extproc.core.operations.table import EngineOperation, Fold

MAX_SHOWN: Final = 2048  # characters of an engine's answer in an error
MAX_RESULTS: Final = 1024  # engines that an error names; those that failed come first
_GOOD: Final = range(200, 300)


@dataclass(frozen=True, slots=True)
class EngineAnswer:
    """The result of one request to an engine: an answer, or a failure to get one."""

    address: str
    status: int = 0  # 0: no answer
    content_type: str = ""
    body: bytes = b""
    seconds: float = 0.0
    failure: str = ""  # why there is no answer, for the operator
    skipped: str = ""  # why the engine was not asked: it is as wanted already

    @property
    def is_good(self) -> bool:
        """Whether the engine is as wanted."""
        return bool(self.skipped) or (not self.failure and self.status in _GOOD)

    def cut(self) -> "EngineAnswer":
        """The same with no more of its body than an error shows."""
        if len(self.body) <= 4 * MAX_SHOWN:
            return self
        return EngineAnswer(
            self.address, self.status, self.content_type, self.body[: 4 * MAX_SHOWN], self.seconds, self.failure
        )


def agreed(operation: EngineOperation, answers: Sequence[EngineAnswer]) -> EngineAnswer | Problem:
    """The answer for the client; `answers` has one for each engine, at least one."""
    asked = [one for one in answers if not one.skipped]
    if len(answers) == 1 and asked and not asked[0].failure:
        return asked[0]
    if not asked or not all(not one.failure and one.status == asked[0].status for one in asked):
        return _problem(operation, answers)
    if not all(one.is_good for one in asked) and len(asked) < len(answers):
        return _problem(operation, answers)
    folded = _folded(operation, [one.body for one in asked])
    if folded is None:
        return _problem(operation, answers)
    first = asked[0]
    return EngineAnswer(first.address, first.status, first.content_type, folded, max(one.seconds for one in asked))


def _problem(operation: EngineOperation, answers: Sequence[EngineAnswer]) -> Problem:
    failed = [one for one in answers if not one.is_good]
    named = sorted(answers, key=lambda one: one.is_good)[:MAX_RESULTS]
    results = {"endpoints": [described(one) for one in named]}
    if not failed:
        return Problem("engines_disagree", {"path": operation.path}, members=results)
    values = {"path": operation.path, "failed": str(len(failed)), "all": str(len(answers))}
    return Problem("partial_failure", values, members=results)


def described(answer: EngineAnswer) -> Mapping[str, object]:
    """The result of one engine, for an error or a log."""
    outcome = "skipped" if answer.skipped else "failed" if not answer.is_good else "done"
    found: dict[str, object] = {"endpoint": answer.address, "result": outcome}
    if answer.skipped or answer.failure:
        return found | {"detail": answer.skipped or answer.failure}
    return found | {"status": answer.status, "answer": shown_body(answer.body)}


def shown_body(body: bytes) -> object:
    """An engine's answer as a member of JSON: itself if it is short JSON, else the beginning of its text."""
    if len(body) <= MAX_SHOWN:
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            pass
    text = body[: 4 * MAX_SHOWN].decode("utf-8", "replace")
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


def _folded(operation: EngineOperation, bodies: Sequence[bytes]) -> bytes | None:
    """The body that all agree on; None if they do not."""
    if all(body == bodies[0] for body in bodies) and not operation.folds:
        return bodies[0]
    objects = [_object(body) for body in bodies]
    if any(one is None for one in objects):
        return bodies[0] if all(body == bodies[0] for body in bodies) else None
    given = [one for one in objects if one is not None]
    rests = [{name: value for name, value in one.items() if name not in operation.folds} for one in given]
    if any(rest != rests[0] for rest in rests):
        return None
    merged = dict(given[0])
    for name, fold in operation.folds.items():
        values = [one[name] for one in given if name in one]
        if not values:
            continue
        if len(values) < len(given) or not all(_fits(fold, value) for value in values):
            return None
        merged[name] = sum(values) if fold is Fold.SUM else all(values)
    return json.dumps(merged, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def _fits(fold: Fold, value: object) -> bool:
    return isinstance(value, bool) if fold is Fold.ALL else isinstance(value, int) and not isinstance(value, bool)


def _object(body: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def wants_again(operation: EngineOperation, answer: EngineAnswer) -> bool:
    """Whether an answer is no result yet: the engine shall be asked again while there is time."""
    if not operation.again_while or not answer.is_good:
        return False
    found = _object(answer.body)
    return found is not None and all(found.get(name) is value for name, value in operation.again_while.items())
