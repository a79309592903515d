"""The limits in force: which counters a request of a caller, a key and a model takes from."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product
from types import MappingProxyType
from typing import Final

import msgspec

from aibrix_extproc.core.access.limits.amounts import AMOUNTS, AmountRow, Quantity, Reset
from aibrix_extproc.core.access.limits.counters import Claim, Form
from aibrix_extproc.core.access.limits.prices import PriceList
from aibrix_extproc.core.access.limits.records import EACH, LimitRecord, PriceRecord, Record, with_shares
from aibrix_extproc.core.access.limits.windows import window_of

QUANTITIES: Final = tuple(Quantity)
INDEX: Final[Mapping[Quantity, int]] = MappingProxyType({quantity: index for index, quantity in enumerate(QUANTITIES)})
MAX_REMEMBERED: Final = 50_000
_ALWAYS: Final = float("inf")
_FORMS: Final = {Reset.FILLS: Form.BUCKET, Reset.CALENDAR: Form.WINDOW, Reset.RELEASED: Form.LEASE}

Subject = tuple[str | None, str | None, str | None]
"""Caller, key, model; None for what a record does not name."""


class Term(msgspec.Struct, frozen=True, gc=False):
    """One limit of a request, with its claim."""

    name: str  # of AMOUNTS
    row: AmountRow
    claim: Claim
    limit: float  # as the record says, not in the counter's units
    record: str  # its id


class Plan(msgspec.Struct, frozen=True, gc=False):
    """All limits of requests of one caller, key and model."""

    terms: tuple[Term, ...]
    claims: tuple[Claim, ...]
    quantities: tuple[int, ...]
    valid_until: float  # microseconds: the earliest end of a window
    has_leases: bool
    has_soft: bool
    of_requests: tuple[int, ...]  # places of the hard limits of requests, and of tokens
    of_tokens: tuple[int, ...]
    of_size: tuple[int, ...]  # of all hard ones that one request may be too large for
    needs_cost: bool


class LimitBook:
    """Immutable, but for what it remembers. Another set of records makes a new book.

    `share`: processes among which each limit is shared out. Of records with one subject the last one counts.
    """

    def __init__(self, records: Iterable[Record] = (), *, share: int = 1) -> None:
        self._share = share
        records = tuple(records)
        self.prices = PriceList(record for record in records if isinstance(record, PriceRecord))
        self._forms: dict[tuple[bool, bool, bool], dict[Subject, list[LimitRecord]]] = {}
        for record in with_shares(record for record in records if isinstance(record, LimitRecord)):
            subject = record.caller, record.key, record.model
            form = record.caller is not None, record.key is not None, record.model is not None
            self._forms.setdefault(form, {}).setdefault(subject, []).append(record)
        self.is_empty = not self._forms
        # Callers and keys that have limits for some model, by whether the record names a caller, and a key.
        self._pairs: dict[tuple[bool, bool], set[tuple[str | None, str | None]]] = {}
        for form, subjects in self._forms.items():
            self._pairs.setdefault(form[:2], set()).update(subject[:2] for subject in subjects)
        self.names_models = any(of_model for _, _, of_model in self._forms)
        self._limited: dict[tuple[str, str], bool] = {}
        self._plans: dict[tuple[str, str, str], Plan] = {}

    def limits(self, caller: str, key: str) -> bool:
        """Whether requests with this key may be limited, by whatever model."""
        if self.is_empty:
            return False
        found = self._limited.get((caller, key))
        if found is None:
            if len(self._limited) >= MAX_REMEMBERED:
                self._limited.clear()
            found = self._limited[caller, key] = any(
                (of_caller, of_key) in pairs
                for (has_caller, has_key), pairs in self._pairs.items()
                for of_caller in _choices(caller, wanted=has_caller)
                for of_key in _choices(key, wanted=has_key)
            )
        return found

    def plan(self, caller: str, key: str, model: str, clock: Callable[[], float]) -> Plan:
        """The limits of a request. `model` may be empty: then those of models do not apply."""
        found = self._plans.get((caller, key, model))
        if found is None or (found.valid_until != _ALWAYS and clock() >= found.valid_until):
            now = clock()
            if len(self._plans) >= MAX_REMEMBERED:
                self._plans.clear()
            found = self._plans[caller, key, model] = self._planned(caller, key, model, now)
        return found

    def amounts(
        self, caller: str, key: str, model: str, clock: Callable[[], float], *, soft: bool = False
    ) -> dict[str, float]:
        """The limits of a request by name, each the least of those that apply together; of soft limits on request."""
        found: dict[str, float] = {}
        for term in self.plan(caller, key, model, clock).terms:
            if term.claim.soft is soft:
                amount = term.limit * self._share
                found[term.name] = min(found.get(term.name, amount), amount)
        return {name: int(amount) if amount == int(amount) else amount for name, amount in sorted(found.items())}

    def _planned(self, caller: str, key: str, model: str, now: float) -> Plan:
        terms: list[Term] = []
        until = _ALWAYS
        for form, records in self._forms.items():
            names = tuple(name if wanted else None for name, wanted in zip((caller, key, model), form, strict=True))
            if "" in names:
                continue  # it has no key, or no model
            choices = [(EACH, name) if name is not None else (None,) for name in names]
            found = [record for subject in _least_exact_first(choices) for record in records.get(subject, ())]
            for soft in (False, True):
                amounts: dict[str, tuple[float | None, str]] = {}
                for record in found:
                    given = record.soft_limits if soft else record.limits
                    amounts.update({name: (amount, record.id) for name, amount in given.items()})
                for name, (amount, record_id) in amounts.items():
                    row = AMOUNTS[name]
                    if amount is not None and row.reset is not Reset.ENDED:
                        part = amount / self._share
                        if row.quantity in OF_ONE:
                            part = max(part, 1.0)  # or nobody could make any request
                        term = _term(name, row, part, record_id, names, now, soft=soft)
                        terms.append(term)
                        if row.reset is Reset.CALENDAR:
                            until = min(until, term.claim.span)
        claims = tuple(term.claim for term in terms)
        return Plan(
            tuple(terms),
            claims,
            tuple(claim.quantity for claim in claims),
            until,
            any(claim.form == Form.LEASE for claim in claims),
            any(claim.soft for claim in claims),
            _places(terms, frozenset({Quantity.REQUESTS})),
            _places(terms, TOKENS),
            _places(terms, frozenset(QUANTITIES) - OF_ONE),
            any(term.row.quantity is Quantity.COST for term in terms),
        )


TOKENS: Final = frozenset({Quantity.INPUT_TOKENS, Quantity.OUTPUT_TOKENS, Quantity.TOKENS})
OF_ONE: Final = frozenset({Quantity.REQUESTS, Quantity.CONCURRENT_REQUESTS})  # each request costs one of these


def _places(terms: Sequence[Term], quantities: frozenset[Quantity]) -> tuple[int, ...]:
    return tuple(index for index, term in enumerate(terms) if term.row.quantity in quantities and not term.claim.soft)


def _choices(name: str, *, wanted: bool) -> tuple[str | None, ...]:
    """Values of a record that fit a name; nothing applies to a name that a request does not have."""
    if not wanted:
        return (None,)
    return (EACH, name) if name else ()


def _least_exact_first(choices: Sequence[tuple[str | None, ...]]) -> list[Subject]:
    found = [(caller, key, model) for caller, key, model in product(*choices)]
    return sorted(found, key=lambda subject: sum(part not in (None, EACH) for part in subject))


def _term(
    name: str, row: AmountRow, amount: float, record: str, names: tuple[str | None, ...], now: float, *, soft: bool
) -> Term:
    window, ends = window_of(row.period, now) if row.reset is Reset.CALENDAR else ("", 0.0)
    units = amount * row.units
    subject = "\n".join(f"{kind}={value}" for kind, value in zip("ckm", names, strict=True) if value is not None)
    counter = f"{subject}\n{name}{'~' if soft else ''}{window}"
    span = row.seconds * 1e6 / units if row.reset is Reset.FILLS else ends
    claim = Claim(counter, int(_FORMS[row.reset]), INDEX[row.quantity], float(units), span, soft)
    return Term(name, row, claim, amount, record)
