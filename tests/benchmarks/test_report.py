import re

import pytest

from benchmarks import framing
from benchmarks.cpu_profile import Inside, Step, section
from benchmarks.keys import BARE, BARE_LEAN, LEAN, PLAIN, REFERENCE
from benchmarks.report import Circumstances, page, table
from benchmarks.results import Results, Sample
from benchmarks.scenarios import SCENARIOS

TITLES = {
    PLAIN: "Envoy alone", BARE: "bare server", BARE_LEAN: "its floor", REFERENCE: "grpcio", LEAN: "lean",
    "ours": "our server",
}  # fmt: skip
ABOUT = Circumstances("2026-01-02", 2, "x86_64", 3, 1, (1.0, 2.0), {"Envoy": "1.40.0"})


def everything() -> Results:
    return Results(
        Sample(
            scenario.key, target, 0, scenario.requests, 1.0, {"ext_proc": 100.0, "envoy": 50.0},
            1.0, 2.0, 3.0, 1, 2, 3, 4,
        )
        for scenario in SCENARIOS.values()
        for target in TITLES
    )  # fmt: skip


def written(results: Results) -> str:
    steps = {"1 KB chat": [Step("decode", 12.34)], "220 KB prompt": [Step("decode", 23.45)]}
    profiles = {"1 KB chat": {"codec": 0.75, "seldom": 0.004}, "220 KB prompt": {"codec": 0.5, "machine": 0.5}}
    framings = {"1 KB chat": 11.11, "220 KB prompt": 22.22}
    where = section(results, Inside(steps, profiles, framings, {kind: {"reader": 1.0} for kind in framings}))
    return page(results, tuple(SCENARIOS.values()), TITLES, {"ours": "our server"}, where, ABOUT)


def test_table_lines_are_equally_long() -> None:
    lines = table(("a", "long head"), [("longer cell", "b"), ("c", "d")]).splitlines()
    assert len({len(line) for line in lines}) == 1


def test_page_of_a_full_run_shows_every_scenario_and_target() -> None:
    text = written(everything())
    assert all(scenario.title in text for scenario in SCENARIOS.values() if scenario.requests)
    assert all(title in text for title in TITLES.values())
    assert "not measured" not in text


def test_page_of_a_partial_run_says_what_was_not_measured() -> None:
    assert "not measured" in written(Results([]))


def test_page_labels_published_figures_as_measured_elsewhere() -> None:
    text = written(everything())
    published, own = text.index("AIBrix"), text.index("this run: our server")
    assert text.index("were measured earlier on another run") < published < own


@pytest.mark.parametrize("transport", ["grpcio", "lean"])
def test_page_splits_the_cost_of_each_transport_so_that_the_parts_make_the_whole(transport: str) -> None:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in written(everything()).splitlines()]
    (row,) = [cells for cells in rows if cells[:2] == ["220 KB prompt, 8 clients", transport] and len(cells) == 6]
    assert row[2:] == ["100", "23", "-23", "100"]


def test_page_shows_what_frames_alone_take() -> None:
    assert "| HTTP/2 and gRPC of an exchange, µs | 11.1      | 22.2          |" in written(everything())


async def test_framing_speaks_as_envoy_does_and_is_answered_until_the_end() -> None:
    speaker = framing.Framing((b"head", bytes(100_000), b"answer"))
    for _ in range(3):
        client_bytes = speaker.client_bytes()
        assert len(client_bytes) == 4
        speaker.exchange(client_bytes)


def test_page_profile_leaves_out_modules_that_take_nothing() -> None:
    text = written(everything())
    assert "| codec   | 75%       | 50%           |" in text
    assert "| machine | 0%        | 50%           |" in text
    assert "seldom" not in text


def test_page_tables_have_as_many_cells_in_each_row_as_heads() -> None:
    blocks = re.findall(r"(?:^\|.*\n)+", written(everything()), flags=re.MULTILINE)
    assert len(blocks) >= 6
    assert all(len({line.count("|") for line in block.splitlines()}) == 1 for block in blocks)
