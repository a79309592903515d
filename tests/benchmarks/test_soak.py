from collections import Counter

import pytest
import uvloop

from aibrix_extproc.adapters.envoyproxy.find import find_envoy
from benchmarks.soak import Count, Moment, Soak, growth, page, reconcile, soak
from benchmarks.soak_load import Kind, Tally

MIB = 1024 * 1024


def moments(*ext_proc_mib: float) -> list[Moment]:
    return [
        Moment(60.0 * index, index, 0, 0, {"ext_proc": round(one * MIB), "envoy": 80 * MIB}, {})
        for index, one in enumerate(ext_proc_mib)
    ]


def a_soak(*, counts: tuple[Count, ...] = (), errors: tuple[str, ...] = ()) -> Soak:
    tally = Tally(Counter({Kind.CHAT: 10}), Counter({Kind.CHAT: 10}), list(errors))
    return Soak(1000.0, 600.0, 3600.0, tally, moments(*[60.0] * 8), counts)


@pytest.mark.parametrize(
    ("memory", "grows"),
    [
        ((60, 60, 60, 60, 60, 60, 60, 60), False),
        ((20, 40, 60, 60, 60, 60, 61, 61), False),  # a start-up is no leak
        ((60, 60, 62, 62, 64, 66, 68, 70), True),
        ((200, 200, 200, 200, 204, 206, 207, 208), False),
        ((60, 60), False),
    ],
)
def test_growth_is_what_the_last_quarter_has_above_the_second(memory: tuple[float, ...], grows: bool) -> None:
    assert bool(growth(moments(*memory), "ext_proc")) is grows


def test_soak_with_unequal_counts_or_failed_requests_complains() -> None:
    assert a_soak().problems() == []
    assert a_soak(counts=(Count("a, b", 3, 3),)).problems() == []
    assert a_soak(counts=(Count("a, b", 3, 4),)).problems() == ["a, b: 3 and 4"]
    assert "the first: cut" in a_soak(errors=("cut",)).problems()[0]


def test_reconciling_compares_our_exchanges_with_envoys_streams_and_leaves_its_admin_out() -> None:
    theirs = {"http.ingress.ext_proc.streams_started": 7, "http.admin.downstream_rq_active": 1}
    assert all(one.here == one.there for one in reconcile({"aibrix_extproc_exchanges_total": 7}, theirs))
    lost = [one for one in reconcile({"aibrix_extproc_exchanges_total": 6}, theirs) if one.here != one.there]
    assert [(one.here, one.there) for one in lost] == [(6, 7)]


@pytest.mark.slow
@pytest.mark.envoy
def test_soak_of_some_seconds_loses_no_fact_and_fails_no_request() -> None:
    found = uvloop.run(soak(find_envoy(None), minutes=0.05, share=0.3, seed=7, say=lambda _: None))
    assert found.tally.errors == []
    assert found.tally.done.total() == found.tally.sent.total() > 50
    assert [one for one in found.counts if one.here != one.there] == []
    assert "| whole chat |" in page(found)
