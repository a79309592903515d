"""Measures the fields of an operation through one address."""

from collections.abc import Iterator, Set
from typing import Any, Final

from aibrix_extproc.core.openai.contract.controls import BODY_CONTROLS
from aibrix_extproc.interfaces.catalogue import catalogue
from tools.measure.answers import Seen
from tools.measure.asking import Asker
from tools.measure.judge import Answer, differences, judged, outcomes
from tools.measure.plan import Probe, base, filled, probes

Json = dict[str, Any]

_TOKENS: Final = tuple(range(4, 512))


class Measurement:
    """Measures operations: engine controls with the key of a caller who may send them, all else with that of a user."""

    def __init__(self, user: Asker, steering: Asker) -> None:
        self._user, self._steering = user, steering

    def refused(self, name: str) -> str:
        """The error of an operation that the engine does not have; empty if it answers a plain request."""
        return self._user.ask(name, base(name)).error

    def operation(self, name: str, *, vision: bool = False, top: bool = False) -> tuple[Json, dict[str, Seen]]:
        """The verdicts of an operation's request, and what was seen of its answers; of `top` fields alone if told."""
        seen = collectors(name)
        return dict(self.fields(name, seen, vision=vision, top=top)), seen

    def fields(
        self,
        name: str,
        seen: dict[str, Seen],
        *,
        vision: bool = False,
        top: bool = False,
        known: Set[str] = frozenset(),
    ) -> Iterator[tuple[str, Json]]:
        """Each field of an operation's request with its verdict, but those that are `known`. Answers go to `seen`."""
        first = self._user.ask(name, base(name))
        again = [self._user.ask(name, base(name), again=True) for _ in range(2)]
        noise = set().union(*(differences(first, one) for one in again))
        text = _some_text(first.body) or "a"
        for probe in probes(name, vision=vision, top=top):
            if probe.field.path not in known:
                yield probe.field.path, self._verdict(name, probe, text, noise, seen)

    def _verdict(self, name: str, probe: Probe, text: str, noise: set[str], seen: dict[str, Seen]) -> Json:
        asker = self._steering if probe.field.path in BODY_CONTROLS else self._user

        def ask(body: Json, asker: Asker = asker) -> Answer:
            answer = asker.ask(name, filled(body, text, _TOKENS))
            _collect(seen, answer)
            return answer

        wrong = None if probe.wrong is None else ask(probe.wrong)
        control, valid = ask(probe.control), ask(probe.valid)
        made = judged(control, valid, wrong, noise, required=probe.required)
        if made["verdict"] == "honoured" and control.good:  # what the engine remembers may change an answer, too
            again = asker.ask(name, filled(probe.control, text, _TOKENS), again=True)
            made = judged(again, valid, wrong, noise | differences(control, again), required=probe.required)
        tried = {value: ask(body) for value, body in probe.bounds.items()}
        if made["verdict"] == "ignored" and not all(one.good for one in tried.values()):
            made["verdict"] = "checked"
        if made["verdict"] in ("checked", "ignored") and probe.why:
            made["why"] = probe.why
        if wrong is not None:
            made["wrong"] = wrong.error or "ok"
        if tried:
            made["bounds"] = outcomes(tried)
        if asker is self._steering:
            made["otherwise"] = ask(probe.valid, self._user).error or "removed"
        return made

    @property
    def asked(self) -> int:
        """How many requests were sent."""
        return self._user.asked + self._steering.asked


def collectors(name: str) -> dict[str, Seen]:
    """What collects the fields of an operation's answers and events."""
    known = catalogue()
    schemas = {"answer": known.interfaces[name].answer, "events": known.interfaces[name].events}
    return {place: Seen(schema, known.definitions) for place, schema in schemas.items() if schema is not None}


def _collect(seen: dict[str, Seen], answer: Answer) -> None:
    if not answer.good or not isinstance(answer.body, dict):
        return
    events = answer.body.get("events")
    if events is None and "answer" in seen:
        seen["answer"].add(answer.body)
    elif events is not None and "events" in seen:
        for one in events:
            if isinstance(one, dict):
                seen["events"].add(one)


def _some_text(body: Any) -> str:
    """Two characters from the middle of a generated text."""
    if isinstance(body, dict):
        for name in ("choices", "message", "content", "output", "text"):
            if name in body and (found := _some_text(body[name])):
                return found
        return ""
    if isinstance(body, list):
        return _some_text(body[0]) if body else ""
    return body[2:4] if isinstance(body, str) else ""
