"""`usage`: rows of results, and options that mean nothing together."""

import argparse
from typing import Any

import pytest

from aibrix_extproc.cli.connection import UsageError
from aibrix_extproc.cli.main import parser_for
from aibrix_extproc.cli.usage import _show, summed

DAY = 86_400


class Api:
    """Answers one page for each path, and remembers what was asked."""

    def __init__(self, *results: dict[str, Any]) -> None:
        self.results = list(results)
        self.asked: list[str] = []

    def get(self, path: str, **_: object) -> dict[str, Any]:
        self.asked.append(path)
        bucket = {"start_time": DAY, "results": self.results if len(self.asked) == 1 else []}
        return {"data": [bucket], "next_page": None}


def parsed(*words: str) -> argparse.Namespace:
    return parser_for("usage").parse_args(["usage", *words])


def a_result(model: str, tokens: int, **more: Any) -> dict[str, Any]:
    return {"model": model, "num_model_requests": 1, "input_tokens": tokens, "output_tokens": 1, **more}


def test_rows_are_summed_over_buckets_and_kinds_with_the_greatest_first() -> None:
    results = [(0, a_result("a", 1)), (DAY, a_result("b", 9)), (DAY, a_result("a", 2, input_cached_tokens=1)),
               (DAY, {"model": "s", "num_model_requests": 2, "seconds": 7})]  # fmt: skip
    assert summed(iter(results), ["model"], costs=False) == [
        {"model": "b", "requests": 1, "input": 9, "cached": 0, "output": 1, "audio_s": 0},
        {"model": "a", "requests": 2, "input": 3, "cached": 1, "output": 2, "audio_s": 0},
        {"model": "s", "requests": 2, "input": 0, "cached": 0, "output": 0, "audio_s": 7},
    ]


def test_rows_by_time_are_in_its_order() -> None:
    results = [(DAY, a_result("a", 1)), (0, a_result("a", 99))]
    assert [row["time"] for row in summed(iter(results), ["time"], costs=False)] == [
        "1970-01-01 00:00", "1970-01-02 00:00",
    ]  # fmt: skip


def test_csv_of_the_own_usage(capsys: pytest.CaptureFixture[str]) -> None:
    api = Api(a_result("a", 3))
    assert _show(api, parsed("--csv", "--width", "1h", "--model", "a")) == 0
    assert capsys.readouterr().out == "model,requests,input,cached,output,audio_s\na,1,3,0,1,0\n"
    (path,) = api.asked
    assert path.startswith("/usage?")
    assert "bucket_width=1h" in path
    assert "group_by%5B%5D=model&models%5B%5D=a" in path


def test_costs_of_all_callers(capsys: pytest.CaptureFixture[str]) -> None:
    api = Api({"user_id": "me", "amount": {"value": 1.5, "currency": "usd"}})
    assert _show(api, parsed("--all", "--costs", "--by", "caller")) == 0
    assert capsys.readouterr().out == "caller  amount  currency\nme      1.5000  usd\n"


@pytest.mark.parametrize("results", [(), (a_result("a", 2_000),)])
def test_plot_draws_a_bar_for_each_bucket(results: tuple[Any, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert _show(Api(*results), parsed("--plot")) == 0
    out = capsys.readouterr().out
    assert ("2,001 tokens" in out) if results else ("nothing was used" in out)


@pytest.mark.parametrize(
    "words",
    [
        ["--by", "caller"], ["--caller", "me"], ["--costs"], ["--all", "--by", "operation"], ["--days", "0"],
        ["--all", "--costs", "--by", "model"], ["--days", "999", "--width", "1m"], ["--days", "nan"],
    ],
)  # fmt: skip
def test_options_that_mean_nothing_together_are_refused(words: list[str]) -> None:
    with pytest.raises(UsageError):
        _show(Api(), parsed(*words))
