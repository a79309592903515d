"""Acceptance 7.12: usage in OpenAI's form. A key that is no administrator's may not see that of all callers."""

import time
from typing import Any, Final

from aibrix_extproc.conformance.bench import Bench
from aibrix_extproc.conformance.case import Case, Inapplicable, Need
from aibrix_extproc.conformance.expect import check, expect_json

ALL: Final = "/v1/organization/usage/completions"
OWN: Final = "/v1/usage"
HOUR: Final = 3600
PAGES: Final = 3
ABSENT: Final = (401, 403, 404)


def _hour() -> int:
    now = int(time.time())
    return now - now % HOUR


def _page(bench: Bench, path: str, query: str) -> Any:
    answer = bench.send("GET", f"{path}?{query}", None, {})
    if answer.status in ABSENT:
        raise Inapplicable(f"{path} answers {answer.status}: the key is no administrator's, or nothing is recorded")
    return expect_json(answer)


def _buckets(bench: Bench) -> None:
    start = _hour() - PAGES * HOUR
    query = f"start_time={start}&end_time={start + PAGES * HOUR}&bucket_width=1h&group_by=model&limit=1"
    seen, cursor = [], ""
    for number in range(PAGES):
        page = _page(bench, ALL, query + (f"&page={cursor}" if cursor else ""))
        check(page.get("object") == "page", "an object of type page", page)
        (bucket,) = page["data"]
        check(bucket.get("object") == "bucket", "objects of type bucket", bucket)
        check(bucket["end_time"] - bucket["start_time"] == HOUR, "buckets of an hour", bucket)
        for result in bucket["results"]:
            check(result.get("object") == "organization.usage.completions.result", "results of completions", result)
            check(isinstance(result.get("model"), str), "a model, because it is grouped by", result)
            check(result.get("user_id") is None, "user_id null, because it is not grouped by", result)
        seen.append(bucket["start_time"])
        is_last = number == PAGES - 1
        check(page["has_more"] is not is_last, f"has_more {not is_last} on page {number + 1}", page["has_more"])
        cursor = page["next_page"]
    check(seen == [start + number * HOUR for number in range(PAGES)], "the hours in their order", seen)
    check(cursor is None, "no cursor on the last page", cursor)


def _of_others(bench: Bench) -> None:
    page = _page(bench, OWN, f"start_time={_hour()}&user_ids[]=somebody-else-of-conformance")
    check(page.get("object") == "page", "an object of type page", page)
    results = [one for bucket in page["data"] for one in bucket["results"]]
    check(not results, "nothing", results)


CASES: Final = (
    # id, title, expected, check, needs
    Case("USE-04", "usage of all callers by the hour and model", "OpenAI's buckets, page by page", _buckets,
         (Need.KEY,)),
    Case("USE-05", "another caller's usage", "nothing", _of_others, (Need.KEY,)),
)  # fmt: skip
