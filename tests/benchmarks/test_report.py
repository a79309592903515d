import re

from benchmarks.keys import BARE, BARE_LEAN, LEAN, PLAIN
from benchmarks.report import Circumstances, Step, page, table
from benchmarks.results import Results, Sample
from benchmarks.scenarios import SCENARIOS

TITLES = {PLAIN: "Envoy alone", BARE: "bare server", BARE_LEAN: "its floor", LEAN: "lean", "ours": "our server"}
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
    return page(results, tuple(SCENARIOS.values()), TITLES, {"ours": "our server"}, steps, profiles, ABOUT)


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


def test_page_splits_the_lean_servers_cost_so_that_the_parts_make_the_whole() -> None:
    (row,) = [line for line in written(everything()).splitlines() if line.startswith("| 220 KB prompt, 8 clients | 1")]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1:] == ["100", "23", "-23", "100"]


def test_page_profile_leaves_out_modules_that_take_nothing() -> None:
    text = written(everything())
    assert "| codec   | 75%       | 50%           |" in text
    assert "| machine | 0%        | 50%           |" in text
    assert "seldom" not in text


def test_page_tables_have_as_many_cells_in_each_row_as_heads() -> None:
    blocks = re.findall(r"(?:^\|.*\n)+", written(everything()), flags=re.MULTILINE)
    assert len(blocks) >= 6
    assert all(len({line.count("|") for line in block.splitlines()}) == 1 for block in blocks)
