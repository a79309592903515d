"""Usage and costs over the API, by OpenAI's own client: buckets, groups, pages, and who may see what."""

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from openai import AsyncOpenAI, NotFoundError

from aibrix_extproc.adapters.ledger.control import ControlLedger
from aibrix_extproc.adapters.ledger.database import Database
from aibrix_extproc.adapters.ledger.usage import UsageLedger
from aibrix_extproc.adapters.openai_http.server import ApiServer
from aibrix_extproc.app.metadata.usage_service import UsageService
from aibrix_extproc.core.access.limits.records import PriceRecord
from aibrix_extproc.core.access.principal import Grants
from aibrix_extproc.core.access.usage_sums import DAY, HOUR, MINUTE
from aibrix_extproc.core.control.rows import Section
from aibrix_extproc.core.openai.contract.operations import Role
from aibrix_extproc.settings.usage import UsageSettings
from tests.metadata.conftest import KEY, signing
from tests.metadata.test_usage_ledger import START, a_record

ADMIN = Grants(Role.ADMIN)


def results(bucket: Any) -> list[Any]:
    """Of a bucket; the SDK's type of them is a union of all kinds."""
    return list(bucket.results)


class Api:
    """An API of its own, and clients that the gateway would have signed for."""

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url

    def client(self, caller: str = "boss", grants: Grants | None = ADMIN) -> AsyncOpenAI:
        hooks = {"request": [signing(caller, grants=grants)]}
        http = httpx2.AsyncClient(event_hooks=hooks, timeout=30.0, verify=False)
        return AsyncOpenAI(
            base_url=f"{self._base_url}/v1", api_key="any", admin_api_key="any", max_retries=0, http_client=http
        )

    async def get(self, path: str, caller: str = "me") -> Any:
        return await self.client(caller, None).get(path, cast_to=object)


@pytest.fixture
async def api(database: Database) -> AsyncIterator[Api]:
    await UsageLedger(database).add([
        a_record(1, START + 5), a_record(2, START + HOUR, model="n", batch_id="batch_1"),
        a_record(3, START + HOUR + 61, caller="you", key_id="k2", cached_tokens=4, status=500),
        a_record(4, START + 2, operation="embedding", output_tokens=0, model="e"),
        a_record(5, START + 3, operation="transcription", audio_seconds=12.4, input_tokens=0, output_tokens=0),
        a_record(6, START - DAY),
    ])  # fmt: skip
    prices: dict[str, float | int] = {"input_tokens": 1000, "output_tokens": 2000}
    await ControlLedger(database).put(Section.LIMITS, "price:m", PriceRecord("price:m", "m", prices))
    await ControlLedger(database).put(Section.LIMITS, "odd", {"kind": "price", "model": 7})
    service = UsageService(database, UsageSettings(), lambda *_: None)
    server = ApiServer(service.handlers(), keys=lambda: (KEY,), observe=lambda *_: None)
    yield Api(f"http://127.0.0.1:{await server.start('127.0.0.1', 0)}")
    await server.stop()


async def test_buckets_of_an_hour_by_model(api: Api) -> None:
    found = await api.client().admin.organization.usage.completions(
        start_time=START, end_time=START + 3 * HOUR, bucket_width="1h", group_by=["model"]
    )
    assert (found.object, found.has_more, found.next_page) == ("page", False, None)
    assert [(one.start_time, one.end_time) for one in found.data] == [
        (START + number * HOUR, START + (number + 1) * HOUR) for number in range(3)
    ]
    seen = [
        sorted(
            (one.model, one.input_tokens, one.input_cached_tokens, one.num_model_requests) for one in results(bucket)
        )
        for bucket in found.data
    ]
    assert seen == [[("m", 10, 0, 1)], [("m", 10, 4, 1), ("n", 10, 0, 1)], []]
    assert {one.user_id for bucket in found.data for one in results(bucket)} == {None}


@pytest.mark.parametrize("width", ["1m", "1h", "1d"])
async def test_pages_of_every_width_add_up_to_the_same(api: Api, width: Any) -> None:
    usage = api.client().admin.organization.usage
    given: dict[str, Any] = {
        "start_time": START, "end_time": START + 2 * HOUR, "bucket_width": width, "limit": 31,
    }  # fmt: skip
    total, page = 0, await usage.completions(**given)
    while True:
        total += sum(one.input_tokens for bucket in page.data for one in results(bucket))
        if not page.has_more:
            break
        page = await usage.completions(**given, page=page.next_page or "")
    assert total == 30


@pytest.mark.parametrize(
    ("given", "tokens"),
    [
        ({"user_ids": ["you"]}, 10), ({"api_key_ids": ["k"]}, 20), ({"models": ["n", "x"]}, 10), ({"batch": True}, 10),
        ({"batch": False}, 20), ({"project_ids": ["p"]}, 0), ({"user_ids": ["you"], "models": ["n"]}, 0),
    ],
)  # fmt: skip
@pytest.mark.parametrize("width", ["1m", "1d"])
async def test_filters(api: Api, given: dict[str, Any], tokens: int, width: Any) -> None:
    page = await api.client().admin.organization.usage.completions(
        start_time=START, end_time=START + 2 * HOUR, bucket_width=width, limit=120 if width == "1m" else 1, **given
    )
    assert sum(one.input_tokens for bucket in page.data for one in results(bucket)) == tokens


async def test_each_kind_counts_its_operations(api: Api) -> None:
    usage = api.client().admin.organization.usage
    (embedded,) = results((await usage.embeddings(start_time=START, end_time=START + 9)).data[0])
    assert (embedded.input_tokens, embedded.num_model_requests) == (10, 1)
    (heard,) = results((await usage.audio_transcriptions(start_time=START, end_time=START + 9)).data[0])
    assert (heard.seconds, heard.num_model_requests) == (12, 1)
    assert results((await usage.images(start_time=START, end_time=START + 9)).data[0]) == []


async def test_costs_are_by_the_prices_of_models(api: Api) -> None:
    page = await api.client().admin.organization.usage.costs(
        start_time=START, end_time=START + DAY, group_by=["line_item", "user_id"]
    )
    found = {(one.line_item, one.user_id): one.amount.value for one in results(page.data[0])}
    assert found == {
        ("m, input_tokens", "me"): pytest.approx(0.01), ("m, output_tokens", "me"): pytest.approx(0.006),
        ("m, input_tokens", "you"): pytest.approx(0.01), ("m, output_tokens", "you"): pytest.approx(0.006),
    }  # fmt: skip


async def test_caller_sees_its_own_usage_and_learns_nothing_of_others(api: Api) -> None:
    path = f"/usage?start_time={START}&end_time={START + DAY}&group_by[]=operation"
    (bucket,) = (await api.get(path))["data"]
    counts = {one["operation"]: one["num_model_requests"] for one in bucket["results"]}
    assert counts == {"chat_completion": 2, "embedding": 1, "transcription": 1}
    (others,) = (await api.get(f"{path}&user_ids[]=you"))["data"]
    assert others["results"] == []
    (yours,) = (await api.get(path, "you"))["data"]
    assert [(one["num_failed_requests"], one["input_cached_tokens"]) for one in yours["results"]] == [(1, 4)]
    with pytest.raises(NotFoundError):
        await api.client("me", None).admin.organization.usage.completions(start_time=START)


async def test_kind_that_openai_does_not_have_is_an_unknown_url(api: Api) -> None:
    with pytest.raises(NotFoundError, match="Invalid URL"):
        await api.client().get("/organization/usage/colours?start_time=1", cast_to=object)


async def test_minutes_come_from_the_records(api: Api) -> None:
    page = await api.client().admin.organization.usage.completions(
        start_time=START + HOUR, end_time=START + HOUR + 3 * MINUTE, bucket_width="1m"
    )
    assert [sum(one.num_model_requests for one in results(bucket)) for bucket in page.data] == [1, 1, 0]
