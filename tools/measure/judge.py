"""Says what an engine did with a field, from its answers with and without it. Pure."""

import json
import re
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from typing import Any, Final

Json = dict[str, Any]

# Members that differ from answer to answer, or with what the engine remembers.
VOLATILE: Final = frozenset({
    "id", "created", "created_at", "completed_at", "item_id", "system_fingerprint", "cached_tokens",
    "cache_read_input_tokens", "created_cache_tokens", "request_id",
})  # fmt: skip
_MOST_PATHS: Final = 3


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer of the gateway."""

    status: int
    body: Any  # JSON, `{"events": [...]}` of a stream, or text

    @property
    def good(self) -> bool:
        """Whether it is no error."""
        return self.status < 400

    @property
    def error(self) -> str:
        """Status, code and param of an error, as far as there are any."""
        if self.good:
            return ""
        said = self.body.get("error", {}) if isinstance(self.body, dict) else {}
        words = [str(self.status), *(str(said[name]) for name in ("code", "param") if said.get(name))]
        return " ".join(words) if len(words) > 1 else f"{self.status} {said.get('type', '')}".strip()


def read(status: int, content_type: str, body: bytes) -> Answer:
    """An answer from the wire."""
    text = body.decode("utf-8", "replace")
    if content_type.startswith("text/event-stream"):
        lines = (line.removeprefix("data:").strip() for line in text.splitlines() if line.startswith("data:"))
        return Answer(status, {"events": [_loaded(line) for line in lines]})
    return Answer(status, _loaded(text))


def _loaded(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf with its path; what is volatile is left out."""
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            if name not in VOLATILE:
                yield from leaves(inner, f"{path}.{name}" if path else name)
    elif isinstance(value, list) and value:
        for number, inner in enumerate(value):
            yield from leaves(inner, f"{path}[{number}]")
    else:
        yield path, value


def differences(one: Answer, other: Answer) -> set[str]:
    """Paths at which two answers differ, without the places in lists."""
    first, second = dict(leaves(one.body)), dict(leaves(other.body))
    changed = {path for path in first.keys() | second.keys() if first.get(path, ...) != second.get(path, ...)}
    return {re.sub(r"\[\d+\]", "[]", path) for path in changed}


def judged(control: Answer, valid: Answer, wrong: Answer | None, noise: Set[str], *, required: bool) -> Json:
    """The verdict on a field.

    `control` is the answer without the field. `honoured`: the field changes the answer, or the engine insists on it;
    `seen` says where. `checked`: no effect is in the answer, but a wrong value is refused. `ignored`: no value has an
    effect. `refused`: a good value is an error.
    """
    if not valid.good:
        beside = {"beside": control.error} if not control.good and not required else {}
        return {"verdict": "refused", "error": valid.error, **beside}
    if not control.good:
        return {"verdict": "honoured", "seen": [f"without it {control.error}"]}
    seen = sorted(differences(control, valid) - noise, key=lambda path: (path.count("."), path))
    if seen:
        return {"verdict": "honoured", "seen": seen[:_MOST_PATHS]}
    return {"verdict": "checked" if wrong is not None and not wrong.good else "ignored"}


def outcomes(answers: Mapping[str, Answer]) -> dict[str, str]:
    """Each tried value with its error, or `ok`."""
    return {value: one.error or "ok" for value, one in answers.items()}
