"""What can happen to a watch, scripted on the double."""

import time
from pathlib import Path

import pytest

from aibrix_extproc.adapters.kube.watching import WatchPace
from aibrix_extproc.core.fleet.model import Health
from aibrix_extproc.core.fleet.reduce import Listed
from tests.adapters.kube.rig import FAST, Discovery, DoubleCluster, discovering
from tests.kubeobjects import a_pod, an_adapter
from tests.waiting import until

FIRST = a_pod("vllm-0", "10.1.0.1")
SECOND = a_pod("vllm-1", "10.1.0.2")
ONE = ("10.1.0.1:8000",)
TWO = ("10.1.0.1:8000", "10.1.0.2:8000")


async def settled(double: DoubleCluster, found: Discovery) -> None:
    """The first pod is there, and it is being watched."""
    await double.put(FIRST)
    await found.until_usable(*ONE)
    await until(lambda: double.api.asked["watch pods"] > 0 and found.source.status.ok)


async def test_watch_that_the_server_ends_is_resumed_without_a_listing(double: DoubleCluster, tmp_path: Path) -> None:
    async with discovering(double, tmp_path) as found:
        await settled(double, found)
        for _ in range(3):
            await double.put(SECOND)
            await found.until_usable(*TWO)
            double.api.hang_up()
            await double.delete(SECOND)
            await found.until_usable(*ONE)
            double.api.hang_up()
        assert double.api.asked["watch pods"] >= 6
        assert double.api.asked["list pods"] == 1
        assert [status.ok for status in found.statuses] == [True]


async def test_watch_resumes_at_the_version_of_the_last_bookmark(double: DoubleCluster, tmp_path: Path) -> None:
    async with discovering(double, tmp_path) as found:
        await settled(double, found)
        told_at = time.monotonic()
        double.api.bookmark()
        bookmarked = str(double.api.version)
        await until(lambda: found.source.age_seconds() < time.monotonic() - told_at, "it has heard something since")
        await until(lambda: _resumed_at(double, bookmarked))


def _resumed_at(double: DoubleCluster, version: str) -> bool:
    double.api.hang_up()
    return double.api.queries[-1][1].get("resourceVersion") == version


async def test_version_that_is_gone_brings_a_new_listing_that_finds_what_was_missed(
    double: DoubleCluster, tmp_path: Path
) -> None:
    async with discovering(double, tmp_path) as found:
        await settled(double, found)
        await double.go_away()
        await double.delete(FIRST)
        await double.put(SECOND)
        double.api.compact()
        await double.come_back()
        await found.until_usable("10.1.0.2:8000")
        assert double.api.asked["list pods"] >= 2
        assert len(found.endpoints) == 1


async def test_objects_change_one_by_one_and_a_listing_without_changes_tells_nothing(
    double: DoubleCluster, tmp_path: Path
) -> None:
    async with discovering(double, tmp_path) as found:
        await settled(double, found)
        told = len(found.changes)
        double.api.compact()
        double.api.hang_up()
        await until(lambda: double.api.asked["list pods"] == 2)
        await double.put(SECOND)
        await found.until_usable(*TWO)
        assert len(found.changes) == told + 1
        assert not isinstance(found.changes[-1], Listed)


async def test_listing_whose_pages_are_gone_begins_again(double: DoubleCluster, tmp_path: Path) -> None:
    for number in range(7):
        await double.put(a_pod(f"vllm-{number}", f"10.1.0.{number + 1}"))
    double.api.expire_pages = 2
    async with discovering(double, tmp_path) as found:
        await until(lambda: len(found.usable()) == 7)
    assert double.api.asked["list pods"] > 3
    assert double.api.largest_page == FAST.page_size


async def test_pod_that_only_a_listing_that_broke_off_has_named_is_gone(double: DoubleCluster, tmp_path: Path) -> None:
    pods = [a_pod(f"vllm-{number}", f"10.1.0.{number + 1}") for number in range(7)]
    for one in pods:
        await double.put(one)
    double.api.expire_pages = 1_000_000
    async with discovering(double, tmp_path) as found:
        await until(lambda: double.api.asked["list pods"] > 1)
        await double.delete(pods[0])
        double.api.expire_pages = 0
        # A listing that was under way may still have named it, and the watch behind that takes it back.
        await until(lambda: len(found.usable()) == 6)


async def test_server_that_is_silent_is_left_for_a_new_connection(double: DoubleCluster, tmp_path: Path) -> None:
    pace = WatchPace(
        silence_seconds=0.2, first_wait_seconds=0.02, longest_wait_seconds=0.05, short_seconds=0.02, absent_seconds=0.1
    )
    async with discovering(double, tmp_path, pace=pace, model_adapters=False) as found:
        await settled(double, found)
        double.api.fall_silent()
        await double.put(SECOND)
        await until(lambda: double.api.asked["watch pods"] >= 3)
        double.api.fall_silent(silent=False)
        await found.until_usable(*TWO)
        assert double.api.asked["list pods"] <= 2


async def test_server_that_ends_every_watch_at_once_is_not_asked_in_a_circle(
    double: DoubleCluster, tmp_path: Path
) -> None:
    pace = WatchPace(first_wait_seconds=0.05, longest_wait_seconds=30.0, short_seconds=1.0)
    async with discovering(double, tmp_path, pace=pace, model_adapters=False) as found:
        double.api.hang_ups = 1_000
        await double.put(FIRST)
        await found.until_usable(*ONE)
        await until(lambda: "ends every watch" in found.source.status.error)
        await until(lambda: double.api.asked["watch pods"] >= 4)
        assert double.api.asked["watch pods"] + double.api.asked["list pods"] < 12
        assert found.usable() == list(ONE)


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_server_in_trouble_leaves_the_fleet_and_is_asked_again(
    double: DoubleCluster, tmp_path: Path, status: int
) -> None:
    async with discovering(double, tmp_path) as found:
        await settled(double, found)
        double.api.failing = status
        double.api.hang_up()
        await until(lambda: f"answered {status}" in found.source.status.error)
        assert found.usable() == list(ONE)
        double.api.failing = None
        await double.put(SECOND)
        await found.until_usable(*TWO)
        await until(lambda: found.source.status.ok)


async def test_denied_adapters_do_not_keep_pods_from_being_used(double: DoubleCluster, tmp_path: Path) -> None:
    await double.put(FIRST)
    await double.put(an_adapter("lora", "vllm-0"))
    async with discovering(double, tmp_path) as found:
        double.api.denied = {"modeladapters"}
        await found.until_usable(*ONE)
        await until(lambda: 'resources: ["modeladapters"]' in found.source.status.error)
        assert 'apiGroups: ["model.aibrix.ai"]' in found.source.status.error
        double.api.denied = set()
        await until(lambda: "lora" in found.models())
        await until(lambda: found.source.status.ok)


async def test_right_to_list_without_the_right_to_watch_is_named_and_the_listing_used(
    double: DoubleCluster, tmp_path: Path
) -> None:
    await double.put(FIRST)
    async with discovering(double, tmp_path) as found:
        double.api.denied = {"watch pods"}
        await found.until_usable(*ONE)
        await until(lambda: "cannot watch" in found.source.status.error)


async def test_credentials_that_expire_are_read_again(double: DoubleCluster, tmp_path: Path) -> None:
    double.api.token = "first"
    async with discovering(double, tmp_path, token="first") as found:
        await settled(double, found)
        double.api.token = "second"
        double.api.hang_up()
        await until(lambda: "credentials" in found.source.status.error)
        double.kubeconfig(tmp_path, token="second")
        await double.put(SECOND)
        await found.until_usable(*TWO)
        await until(lambda: found.source.status.ok)


async def test_custom_kind_that_is_removed_takes_its_objects_along(double: DoubleCluster, tmp_path: Path) -> None:
    await double.put(FIRST)
    await double.put(an_adapter("lora", "vllm-0"))
    async with discovering(double, tmp_path) as found:
        await until(lambda: "lora" in found.models())
        await double.install("modeladapters", there=False)
        double.api.hang_up()
        await until(lambda: set(found.models()) == {"chat-m"})
        assert found.source.status.ok


async def test_object_that_is_none_is_left_out_with_a_remark(double: DoubleCluster, tmp_path: Path) -> None:
    async with discovering(double, tmp_path) as found:
        await settled(double, found)
        await double.put(SECOND | {"status": "broken"})
        await until(lambda: list(found.source.warnings()) == ["Pod llm/vllm-1"])
        assert found.usable() == list(ONE)
        await double.put(SECOND)
        await found.until_usable(*TWO)


async def test_event_that_is_no_json_costs_one_connection(double: DoubleCluster, tmp_path: Path) -> None:
    async with discovering(double, tmp_path) as found:
        await settled(double, found)
        double.api.garble = 1
        await double.put(SECOND)
        await found.until_usable(*TWO)


async def test_large_pod_that_comes_in_many_chunks_is_read(double: DoubleCluster, tmp_path: Path) -> None:
    large = {"kubectl.kubernetes.io/last-applied-configuration": "x" * 1_000_000}
    async with discovering(double, tmp_path) as found:
        await settled(double, found)
        await double.put(a_pod("vllm-1", "10.1.0.2", annotations=large))
        await found.until_usable(*TWO)


async def test_requests_carry_the_selectors_and_no_listing_follows_without_need(
    double: DoubleCluster, tmp_path: Path
) -> None:
    async with discovering(double, tmp_path, pod_selector="model.aibrix.ai/name,team=a") as found:
        await until(lambda: found.store.known)
        for number in range(20):
            await double.put(a_pod("vllm-0", "10.1.0.1", ready=number % 2 == 0))
        await until(lambda: found.store.known)
    asked = [query for what, query in double.api.queries if what.endswith("pods")]
    assert {query["labelSelector"] for query in asked} == {"model.aibrix.ai/name,team=a"}
    assert {query.get("allowWatchBookmarks", "true") for query in asked} == {"true"}
    assert double.api.asked["list pods"] == 1


async def test_change_of_readiness_is_told_by_the_watch_that_is_open(double: DoubleCluster, tmp_path: Path) -> None:
    async with discovering(double, tmp_path) as found:
        await settled(double, found)
        await until(lambda: double.api.asked["watch pods"] == 1, "the watch is open")
        await double.put(a_pod("vllm-0", "10.1.0.1", ready=False))
        await until(lambda: found.endpoints[0].health is Health.NOT_READY)
        assert (double.api.asked["list pods"], double.api.asked["watch pods"]) == (1, 1)


async def test_end_of_the_source_ends_every_watch(double: DoubleCluster, tmp_path: Path) -> None:
    async with discovering(double, tmp_path) as found:
        await settled(double, found)
    await until(lambda: double.api.watchers == 0)
