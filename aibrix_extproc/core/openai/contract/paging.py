"""Pages of a list: `limit`, `order` and `after`, and the list object."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from aibrix_extproc.core.openai.contract.errors import Problem
from aibrix_extproc.core.openai.contract.refusals import out_of_range, unsupported

_INTEGER: Final = re.compile(r"-?[0-9]{1,12}")


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list that a client asks for."""

    limit: int
    newest_first: bool
    after: str | None  # id of the last object of the page before


def read_page(query: Mapping[str, str], *, default: int, largest: int) -> Page | Problem:
    """The page named by query parameters. Empty ones count as absent, as SDKs send them."""
    given = query.get("limit", "")
    if given and _INTEGER.fullmatch(given) is None:
        return Problem("invalid_type", {"param": "limit", "expected": "an integer", "got": "a string"}, param="limit")
    limit = int(given) if given else default
    if not 1 <= limit <= largest:
        return out_of_range("limit", limit, 1, largest)
    order = query.get("order", "") or "desc"
    if order not in ("asc", "desc"):
        return unsupported("order", order, ("asc", "desc"))
    return Page(limit, order == "desc", query.get("after", "") or None)


def list_object(objects: Sequence[Mapping[str, object]], *, has_more: bool) -> dict[str, object]:
    """OpenAI's list object."""
    return {
        "object": "list",
        "data": list(objects),
        "first_id": objects[0]["id"] if objects else None,
        "last_id": objects[-1]["id"] if objects else None,
        "has_more": has_more,
    }
