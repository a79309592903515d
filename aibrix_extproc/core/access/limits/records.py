"""Records of limits and prices, as files, the admin API and the control feed hold them, and how they are checked.

A limit applies to what its record names: a caller, a key, a model, or a combination of them. `*` means each one by
itself, and an absent name means all together. A record that names one exactly replaces, amount by amount, what a record
of the same form says with `*`; `null` replaces it by no limit. Records of different forms all apply at once.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import msgspec

from aibrix_extproc.core.access.limits.amounts import AMOUNTS, AmountRow, Reset
from aibrix_extproc.core.nearest import did_you_mean

EACH: Final = "*"
MAX_NAME: Final = 256
MAX_NOTE: Final = 256
PRICES: Final = ("input_tokens", "cached_input_tokens", "output_tokens", "audio_minutes", "requests")
MAX_PRICE: Final = 10**6
_OF_BATCHES: Final = "batches are counted by the metadata service, for callers: store it over the API, and name no key"

Amounts = Mapping[str, float | None]
"""Names of AMOUNTS with what is allowed; None: no limit."""


class LimitFormatError(ValueError):
    """A record that cannot be used. `field` is its dotted path, empty for the whole record."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}" if field else reason)
        self.field = field
        self.reason = reason


class LimitRecord(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="kind", tag="limit"):
    """Limits of a caller, a key, a model or a combination; see the module for what absent names and `*` mean."""

    id: str
    caller: str | None = None
    key: str | None = None
    model: str | None = None
    limits: dict[str, float | int | None] = {}
    soft_limits: dict[str, float | int | None] = {}  # exceeding one warns and refuses nothing
    caller_share: float | None = None  # the part of them that one caller may use
    note: str = ""


class PriceRecord(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="kind", tag="price"):
    """Prices of a model in the operator's currency: tokens by the million, minutes of audio and requests by one.

    `model` is a name or a shell-style pattern; the longest pattern that matches counts, a name before every pattern.
    Cached input that has no price of its own costs what other input costs.
    """

    id: str
    model: str
    prices: dict[str, float | int] = {}
    note: str = ""


Record = LimitRecord | PriceRecord


def parse_record(data: object, *, of_batches: bool = False) -> Record:
    """The record of a mapping, as JSON or YAML gave it. Raises LimitFormatError.

    `of_batches`: whether it may limit batches, which only the metadata service can.
    """
    if not isinstance(data, Mapping):
        raise LimitFormatError("", "expected an object")
    kind = data.get("kind", "limit")
    if kind == "limit":
        return _limit(data, of_batches=of_batches)
    if kind == "price":
        return _price(data)
    raise LimitFormatError("kind", "expected limit or price")


def parse_amounts(given: object, field: str = "limits", *, of_batches: bool = False) -> dict[str, float | int | None]:
    """Names of AMOUNTS with what is allowed. Raises LimitFormatError."""
    found: dict[str, float | int | None] = {}
    for name, value in _mapping(given, field).items():
        row = AMOUNTS.get(name)
        if row is None:
            raise LimitFormatError(f"{field}.{name[:64]}", f"there is no such limit{did_you_mean(name, AMOUNTS)}")
        if row.reset is Reset.ENDED and not of_batches:
            raise LimitFormatError(f"{field}.{name}", _OF_BATCHES)
        found[name] = None if value is None else _amount(row, value, f"{field}.{name}")
    return found


def parse_prices(given: object) -> dict[str, float | int]:
    """Names of PRICES with the price. Raises LimitFormatError."""
    field = "prices"
    found: dict[str, float | int] = {}
    for name, value in _mapping(given, field).items():
        if name not in PRICES:
            raise LimitFormatError(f"{field}.{name[:64]}", f"there is no such price{did_you_mean(name, PRICES)}")
        number = _number(value, f"{field}.{name}")
        if not 0 <= number <= MAX_PRICE:
            raise LimitFormatError(f"{field}.{name}", f"expected a price from 0 to {MAX_PRICE:,}")
        found[name] = number
    if not found:
        raise LimitFormatError(field, "expected at least one price")
    return found


def _limit(data: Mapping[object, object], *, of_batches: bool) -> LimitRecord:
    _known(data, ("kind", "id", "caller", "key", "model", "limits", "soft_limits", "caller_share", "note"))
    subject = {name: _name(data, name) for name in ("caller", "key", "model")}
    limits = parse_amounts(data.get("limits", {}), "limits", of_batches=of_batches and subject["key"] is None)
    soft = parse_amounts(data.get("soft_limits", {}), "soft_limits")
    if not limits and not soft:
        raise LimitFormatError("limits", "expected at least one limit")
    share = _share(data, subject)
    record_id = _name(data, "id") or _derived(subject)
    return LimitRecord(record_id, **subject, limits=limits, soft_limits=soft, caller_share=share, note=_note(data))


def _share(data: Mapping[object, object], subject: Mapping[str, str | None]) -> float | None:
    if data.get("caller_share") is None:
        return None
    share = _number(data["caller_share"], "caller_share")
    if not 0 < share < 1:
        raise LimitFormatError("caller_share", f"expected a part between 0 and 1, got {share}")
    if subject["caller"] is not None or subject["key"] is not None:
        raise LimitFormatError("caller_share", "is for what all callers use together: leave caller and key out")
    return share


def with_shares(records: Iterable[LimitRecord]) -> Iterator[LimitRecord]:
    """The records, and before each with a `caller_share` what that allows each caller."""
    for record in records:
        if record.caller_share is not None:
            yield LimitRecord(
                f"{record.id}/each", EACH, None, record.model, _part(record.limits, record.caller_share),
                _part(record.soft_limits, record.caller_share),
            )  # fmt: skip
        yield record


def _part(amounts: Mapping[str, float | int | None], share: float) -> dict[str, float | int | None]:
    """At least one of what cannot be divided."""
    found: dict[str, float | int | None] = {}
    for name, amount in amounts.items():
        if amount is not None:
            found[name] = max(int(amount * share + 1e-9), 1) if AMOUNTS[name].whole else amount * share
    return found


def _price(data: Mapping[object, object]) -> PriceRecord:
    _known(data, ("kind", "id", "model", "prices", "note"))
    model = _name(data, "model")
    if model is None:
        raise LimitFormatError("model", "expected the name of a model, or a pattern")
    prices = parse_prices(data.get("prices", {}))
    return PriceRecord(_name(data, "id") or f"price:{model}", model, prices, _note(data))


def _derived(subject: Mapping[str, str | None]) -> str:
    """The id of a record that has none: what it is for."""
    return ",".join(f"{name}={value}" for name, value in subject.items() if value is not None) or "all"


def _amount(row: AmountRow, value: object, field: str) -> float | int:
    number = _number(value, field)
    if number <= 0:
        raise LimitFormatError(
            field, f"expected more than 0, got {number}; to let nobody in disable the key, for no limit write null"
        )
    if number > row.maximum:
        raise LimitFormatError(field, f"expected at most {row.maximum:,}; for no limit write null")
    if row.whole and number != int(number):
        raise LimitFormatError(field, f"expected a whole number, got {number}")
    if not row.whole and number * row.units < 1:
        raise LimitFormatError(field, f"expected at least {1 / row.units:g}, got {number}")
    return int(number) if row.whole else number


def _number(value: object, field: str) -> float | int:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise LimitFormatError(field, "expected a number")
    if isinstance(value, float) and not math.isfinite(value):
        raise LimitFormatError(field, f"expected a finite number, got {value}")
    return value


def _mapping(given: object, field: str) -> Mapping[str, object]:
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        raise LimitFormatError(field, "expected an object")
    return given


def _name(data: Mapping[object, object], field: str) -> str | None:
    value = data.get(field)
    if value is None:
        return None
    if not isinstance(value, str) or not 0 < len(value) <= MAX_NAME or not value.isprintable():
        raise LimitFormatError(field, f"expected a text of 1 to {MAX_NAME} printable characters")
    return value


def _note(data: Mapping[object, object]) -> str:
    value = data.get("note", "")
    if not isinstance(value, str) or len(value) > MAX_NOTE:
        raise LimitFormatError("note", f"expected a text of at most {MAX_NOTE} characters")
    return value


def _known(data: Mapping[object, object], fields: tuple[str, ...]) -> None:
    for name in data:
        if name not in fields:
            raise LimitFormatError(str(name)[:64], f"there is no such field{did_you_mean(str(name), fields)}")
