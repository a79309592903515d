"""Usage and costs in OpenAI's form: of everybody for administrators, and of a caller for itself."""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Final

from aibrix_extproc.adapters.ledger.usage import UsageLedger
from aibrix_extproc.adapters.openai_http.call import Call, Handler, RefusedError, Reply, good, refuse
from aibrix_extproc.core.access.limits.records import PriceRecord
from aibrix_extproc.core.access.usage_query import Form, UsageQuery, read_query
from aibrix_extproc.core.access.usage_results import COST_GROUPS, KINDS, OWN, Kind, costs, operations_of, page, result
from aibrix_extproc.core.access.usage_sums import Series, Sums
from aibrix_extproc.core.openai.contract.operations import unknown_url

MOST_RESULTS: Final = 50_000  # in one page
_COSTS: Final = Form(COST_GROUPS, ("1d",), largest=180)
_OWN: Final = Form(OWN.groups, default_days=7)

PriceOf = Callable[[str], PriceRecord | None]


@dataclass(frozen=True, slots=True)
class UsageApi:
    """Handlers by operation id. `prices` reads the prices of models that operators have set."""

    ledger: UsageLedger
    prices: Callable[[], Awaitable[PriceOf]]
    wall_clock: Callable[[], float]
    currency: str

    def handlers(self) -> Mapping[str, Handler]:
        """What an API server needs."""
        return {"organization_usage": self.of_all, "organization_costs": self.costs, "usage": self.own}

    async def of_all(self, call: Call) -> Reply:
        """One page of a kind of usage, of all callers."""
        kind = KINDS.get(call.parameters.get("kind", ""))
        if kind is None:
            raise RefusedError(unknown_url(call.request.method, call.request.path))
        return await self._page(self._query(call, Form(kind.groups)), kind, operations_of(kind))

    async def own(self, call: Call) -> Reply:
        """One page of all that the caller has used itself; asked for somebody else's, there is none."""
        query = self._query(call, _OWN)
        asked = query.filters.get("user_id", (call.caller,))
        mine = (call.caller,) if call.caller in asked else ()
        return await self._page(replace(query, filters={**query.filters, "user_id": mine}), OWN, None)

    async def costs(self, call: Call) -> Reply:
        """One page of costs, by the prices of now."""
        query = self._query(call, _COSTS)
        wanted = tuple(dict.fromkeys((*query.group_by, "model")))  # prices are those of models
        found = await self._sums(replace(query, group_by=wanted), None)
        price_of = await self.prices()
        return Reply(page(query, {
            start: costs(rows, price_of, query.group_by, self.currency) for start, rows in found.items()
        }))  # fmt: skip

    def _query(self, call: Call, form: Form) -> UsageQuery:
        return good(read_query(tuple(call.request.query.items()), form, self.wall_clock()))

    async def _page(self, query: UsageQuery, kind: Kind, operations: Collection[str] | None) -> Reply:
        found = await self._sums(query, operations)
        return Reply(page(query, {
            start: [result(kind, series, sums, query.group_by) for series, sums in rows]
            for start, rows in found.items()
        }))  # fmt: skip

    async def _sums(
        self, query: UsageQuery, operations: Collection[str] | None
    ) -> Mapping[int, list[tuple[Series, Sums]]]:
        rows = await self.ledger.sums(query, operations, MOST_RESULTS)
        if rows is None:
            message = f"The page would have more than {MOST_RESULTS} results. Ask for fewer buckets or groups."
            raise refuse("invalid_value", param="limit", message=message)
        found: dict[int, list[tuple[Series, Sums]]] = defaultdict(list)
        for start, series, sums in rows:
            found[start].append((series, sums))
        return found
