import argparse

import pytest
import uvloop

from aibrix_extproc.adapters.envoyproxy.find import find_envoy
from benchmarks.churn import Result, Window, address_of, lateness, page, run


def a_window(**changes: object) -> Window:
    values = {
        "title": "t", "seconds": 1.0, "requests": 10, "changes": 0, "failures": (), "core_share": 0.1,
        "rss_bytes": 1 << 20, "late": {0.02: 8, 0.05: 10, 1.0: 10}, **changes,
    }  # fmt: skip
    return Window(**values)  # type: ignore[arg-type]


def test_lateness_names_the_bound_of_all_looks_and_counts_the_long_ones() -> None:
    assert lateness(a_window()) == "at most 50 ms, 2 of 10 checks above 20 ms"
    assert lateness(a_window(late={0.02: 3, 0.05: 3})) == "at most 20 ms, 0 of 3 checks above 20 ms"


def test_addresses_of_pods_are_loopback_and_never_the_same() -> None:
    assert len({address_of(number) for number in range(5000)}) == 5000
    assert address_of(4999) == "127.9.19.250"


@pytest.mark.slow
@pytest.mark.envoy
def test_churn_of_some_pods_fails_no_request_that_a_live_pod_could_serve() -> None:
    args = argparse.Namespace(pods=30, changes=40.0, rate=40.0, seconds=3.0, outage=1.0, seed=5)
    result = uvloop.run(run(args, find_envoy(None)))
    assert [one.failures for one in result.windows] == [(), (), ()]
    assert result.windows[1].changes > 10  # of 120 on a machine that is not busy
    assert "| no API server |" in page(result, args)


def test_page_tells_what_the_changes_alone_have_cost() -> None:
    args = argparse.Namespace(rate=200.0)
    text = page(Result(5, 1.0, [a_window(core_share=0.1), a_window(core_share=0.25), a_window()]), args)
    assert "took\n15.0% of a core" in text
