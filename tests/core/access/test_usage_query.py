"""Questions about usage: what they ask, what is wrong with them, and the pages that answer them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibrix_extproc.core.access.limits.prices import PriceList
from aibrix_extproc.core.access.limits.records import PriceRecord
from aibrix_extproc.core.access.usage_query import Form, UsageQuery, page_name, read_query
from aibrix_extproc.core.access.usage_results import KINDS, OWN, costs, line_items, operations_of, page
from aibrix_extproc.core.access.usage_sums import DAY, HOUR, Series, Sums
from aibrix_extproc.core.openai.contract.errors import Problem, shape

NOW = 1_800_000_000.0
DAY_START = int(NOW) - int(NOW) % DAY
FORM = Form(("model", "user_id"))


def asked(text: str, form: Form = FORM) -> UsageQuery | Problem:
    pairs = [tuple(one.split("=", 1)) for one in text.split("&")] if text else []
    return read_query(pairs, form, NOW)  # type: ignore[arg-type]


def query(text: str, form: Form = FORM) -> UsageQuery:
    found = asked(text, form)
    assert isinstance(found, UsageQuery), found
    return found


def test_buckets_begin_at_whole_days_and_end_now() -> None:
    found = query(f"start_time={DAY_START + 5}")
    assert (found.start, found.end, found.width, found.limit) == (DAY_START, int(NOW) + 1, DAY, 7)
    assert list(found.starts()) == [DAY_START]
    assert not found.has_more


def test_lists_come_in_both_forms() -> None:
    found = query(
        "start_time=1&end_time=9&group_by[]=model&group_by=user_id&models[]=a&models=b&batch=false&api_key_ids="
    )
    assert found.group_by == ("model", "user_id")
    assert (found.filters, found.batch) == ({"model": ("a", "b")}, False)


def test_start_may_have_a_default() -> None:
    found = query("", Form((), default_days=7))
    assert found.start == DAY_START - 6 * DAY
    assert not found.has_more, "the first page has today"


@pytest.mark.parametrize(
    ("text", "param", "status"),
    [
        ("", "start_time", 400),
        ("start_time=x", "start_time", 400),
        ("start_time=-1", "start_time", 400),
        ("start_time=999999999999", "start_time", 400),
        ("start_time=5&end_time=5", "end_time", 400),
        ("start_time=5&end_time=1e9", "end_time", 400),
        ("start_time=5&bucket_width=2h", "bucket_width", 400),
        ("start_time=5&limit=0", "limit", 400),
        ("start_time=5&limit=32", "limit", 400),
        ("start_time=5&bucket_width=1m&limit=1441", "limit", 400),
        ("start_time=5&limit=many", "limit", 400),
        ("start_time=5&group_by=colour", "group_by", 400),
        ("start_time=5&batch=1", "batch", 400),
        ("start_time=5&page=next", "page", 400),
        ("start_time=5&page=page_5", "page", 400),
        (f"start_time={DAY_START}&page=page_{DAY_START - DAY}", "page", 400),
        (f"start_time={DAY_START}&page=page_{DAY_START + DAY}", "page", 400),
        ("start_time=5&" + "&".join(f"models={one}" for one in range(101)), "models", 400),
    ],
)
def test_what_makes_no_sense_is_refused_by_its_parameter(text: str, param: str, status: int) -> None:
    found = asked(text)
    assert isinstance(found, Problem)
    assert (found.param, shape(found).status) == (param, status)


@given(st.integers(0, 10**9), st.integers(1, 60 * DAY), st.sampled_from(["1m", "1h", "1d"]), st.integers(1, 31))
def test_pages_cover_each_bucket_once(start: int, seconds: int, width: str, limit: int) -> None:
    text = f"start_time={start}&end_time={start + seconds}&bucket_width={width}&limit={limit}"
    first = found = query(text)
    seen: list[int] = []
    for _ in range(200):
        seen += found.starts()
        if not found.has_more:
            assert seen == list(range(first.start, first.end, first.width))
            return
        assert len(found.starts()) == limit
        found = query(f"{text}&page={page_name(found.page_end)}")


def test_page_has_empty_buckets_and_a_cursor() -> None:
    found = query(f"start_time={DAY_START}&bucket_width=1h&limit=2")
    built: dict[str, Any] = page(found, {DAY_START + HOUR: [{"object": "x"}]})
    assert [(one["start_time"], one["end_time"], len(one["results"])) for one in built["data"]] == [
        (DAY_START, DAY_START + HOUR, 0), (DAY_START + HOUR, DAY_START + 2 * HOUR, 1),
    ]  # fmt: skip
    assert (built["has_more"], built["next_page"]) == (True, f"page_{DAY_START + 2 * HOUR}")


def test_each_operation_counts_as_one_kind_at_most() -> None:
    found = [operations_of(kind) for kind in KINDS.values()]
    assert sum(map(len, found)) == len(frozenset().union(*found))
    assert {"chat_completion", "response", "message"} <= operations_of(KINDS["completions"])
    assert {"embedding", "rerank", "score"} <= operations_of(KINDS["embeddings"])
    assert operations_of(KINDS["audio_transcriptions"]) == {"transcription", "translation"}
    assert operations_of(KINDS["images"]) == set()


PRICES = PriceList([
    PriceRecord("1", "m", {"input_tokens": 2, "output_tokens": 6}),
    PriceRecord("2", "m*", {"input_tokens": 1, "cached_input_tokens": 0.5, "audio_minutes": 3, "requests": 0.25}),
    PriceRecord("3", "*", {"requests": 9}),
]).of  # fmt: skip


def test_cached_input_without_a_price_costs_what_input_costs() -> None:
    sums = Sums(requests=4, failed=1, input_tokens=3_000_000, cached_tokens=1_000_000, output_tokens=500_000)
    assert line_items(sums, PRICES("m")) == {  # type: ignore[arg-type]
        "input_tokens": (3_000_000, 6.0), "output_tokens": (500_000, 3.0),
    }  # fmt: skip
    assert line_items(sums, PRICES("m2")) == {  # type: ignore[arg-type]
        "input_tokens": (2_000_000, 2.0), "cached_input_tokens": (1_000_000, 0.5), "requests": (3, 0.75),
    }  # fmt: skip


def test_costs_are_summed_by_what_the_query_groups_by() -> None:
    million = Sums(requests=1, input_tokens=1_000_000)
    rows = [(Series("me", "k", "m", "", False), million), (Series("you", "k", "m", "", False), million)]
    (whole,) = costs(rows, PRICES, (), "usd")
    assert (whole["amount"], whole["user_id"], whole["line_item"]) == ({"value": 4.0, "currency": "usd"}, None, None)
    lines = costs(rows, PRICES, ("line_item", "user_id"), "usd")
    assert [(one["line_item"], one["user_id"], one["quantity"]) for one in lines] == [
        ("m, input_tokens", "me", 1_000_000), ("m, input_tokens", "you", 1_000_000),
    ]  # fmt: skip
    assert costs(rows, lambda _: None, (), "usd") == []


def test_own_usage_is_grouped_by_what_belongs_to_the_caller() -> None:
    assert "user_id" not in OWN.groups
