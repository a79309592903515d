"""Endpoints that warm up after a cordon, and sessions while endpoints have different weights."""

from dataclasses import replace

from aibrix_extproc.core.fleet.model import Endpoint
from aibrix_extproc.core.placing import Placement
from aibrix_extproc.core.routing.ramps import FIRST_SHARE, Ramps
from aibrix_extproc.core.routing.versions import WeightVersions

ONE, TWO, THREE = (Endpoint(name, f"{name}:1") for name in ("e1", "e2", "e3"))
PLACED = Placement("least-request", "m", (ONE, TWO, THREE))


class Time:
    now = 0.0
    drawn = 0.5

    def ramps(self, *endpoints: Endpoint) -> Ramps:
        ramps = Ramps(10.0, lambda: self.now, lambda: self.drawn)
        ramps.on_changes([(replace(one, cordon="run"), one) for one in endpoints], None)
        return ramps


def test_share_grows_to_all_requests() -> None:
    time = Time()
    ramps = time.ramps(ONE)
    firsts = []
    for time.now, time.drawn in ((0.0, FIRST_SHARE), (0.0, 0.09), (5.0, 0.54), (5.0, 0.56), (10.0, 0.99)):
        firsts.append(ramps.spread(PLACED).first.identity)
    assert firsts == ["e2", "e1", "e1", "e2", "e1"]
    assert not ramps


def test_no_other_endpoint_suffers() -> None:
    ramps = Time().ramps(TWO)
    assert ramps.spread(PLACED) is PLACED


def test_cold_endpoints_come_behind_warm_ones_and_keep_their_order_among_themselves() -> None:
    assert [one.identity for one in Time().ramps(ONE, TWO).spread(PLACED).candidates] == ["e3", "e2", "e1"]
    assert Time().ramps(ONE, TWO, THREE).spread(PLACED) is PLACED


def test_an_endpoint_that_is_cordoned_again_or_leaves_is_forgotten() -> None:
    for after in (replace(ONE, cordon="again"), None):
        ramps = Time().ramps(ONE)
        ramps.on_changes([(ONE, after)], None)
        assert not ramps


def test_a_session_changes_its_version_once_while_an_update_rolls() -> None:
    fleet = tuple(Endpoint(f"e{number}", f"e{number}:1", weight_version="v1") for number in range(4))
    versions, changes = WeightVersions(), dict[str, list[str]]()
    for updated in range(5):
        members = tuple(replace(one, weight_version="v2") if n < updated else one for n, one in enumerate(fleet))
        counts = {"v1": 0, "v2": 0}
        for number in range(400):
            session = f"session-{number}"
            (version,) = {one.weight_version for one in versions.of_session(session, "m", members, members)}
            counts[version] += 1
            seen = changes.setdefault(session, [])
            if not seen or seen[-1] != version:
                seen.append(version)
        assert abs(counts["v2"] - 100 * updated) < 40
    assert {tuple(seen) for seen in changes.values()} == {("v1", "v2")}


def test_an_endpoint_that_is_being_updated_moves_only_sessions_that_have_no_other() -> None:
    fleet = tuple(Endpoint(f"e{n}", f"e{n}:1", weight_version="v1" if n else "v2") for n in range(3))
    versions = WeightVersions()
    for number in range(50):
        before = versions.of_session(f"s{number}", "m", fleet, fleet)
        after = versions.of_session(f"s{number}", "m", fleet, fleet[:2])  # e2 is cordoned
        assert {one.weight_version for one in after} == {one.weight_version for one in before}
        assert versions.of_session(f"s{number}", "m", fleet, fleet[:1]) == fleet[:1]


def test_equal_and_unknown_versions_select_nothing() -> None:
    same = tuple(Endpoint(f"e{n}", f"e{n}:1", weight_version=("", "v1")[n % 2]) for n in range(4))
    assert WeightVersions().of_session("s", "m", same, same) is same
