"""The runner: every case ends, in its time, with a result that can be shown."""

import threading
from collections.abc import Callable

from aibrix_extproc.conformance.bench import Bench
from aibrix_extproc.conformance.case import Case, Inapplicable, Mismatch, Need, Result, Verdict
from aibrix_extproc.conformance.run import Run
from aibrix_extproc.conformance.table import CASES
from aibrix_extproc.conformance.target import Target
from tests.conformance.fake import a_deployment, a_target, silent


def a_case(check: Callable[[Bench], None], *, number: int = 0, needs: tuple[Need, ...] = ()) -> Case:
    return Case(CASES[number].id, "title", "what is expected", check, needs)


def results(*cases: Case, target: Target | None = None, concurrency: int = 4, wants_key: bool = True) -> list[Result]:
    seen: list[Result] = []
    run = Run(target or a_target(), a_deployment(wants_key=wants_key), concurrency=concurrency, on_result=seen.append)
    found = run.over(cases)
    assert sorted(result.case.id for result in seen) == sorted(result.case.id for result in found)
    return list(found)


def test_a_case_that_returns_has_passed() -> None:
    (result,) = results(a_case(lambda bench: None))
    assert (result.verdict, result.came, result.reason) == (Verdict.PASS, "", "")


def test_a_mismatch_tells_what_was_expected_and_what_came() -> None:
    def check(bench: Bench) -> None:
        raise Mismatch("status 200", f"status 500, key {bench.target.api_key}\n\x00")

    (result,) = results(a_case(check), target=a_target(api_key="sk-0123456789"))
    assert (result.verdict, result.expected) == (Verdict.FAIL, "status 200")
    assert result.came == "status 500, key *** \\x00"


def test_a_case_that_does_not_apply_is_skipped_with_its_reason() -> None:
    def check(bench: Bench) -> None:
        raise Inapplicable("there is none")

    (result,) = results(a_case(check))
    assert (result.verdict, result.reason) == (Verdict.SKIP, "there is none")


def test_a_need_that_is_not_met_skips_without_asking() -> None:
    def check(bench: Bench) -> None:
        raise AssertionError("was asked")

    (result,) = results(a_case(check, needs=(Need.CHAT, Need.KEY)), wants_key=False)
    assert (result.verdict, result.reason) == (Verdict.SKIP, "the deployment requires no API key")


def test_any_exception_is_a_failure_of_that_case_only() -> None:
    def broken(bench: Bench) -> None:
        raise TypeError("'NoneType' object is not iterable")

    first, second = results(a_case(broken), a_case(lambda bench: None, number=1))
    assert (first.verdict, second.verdict) == (Verdict.FAIL, Verdict.PASS)
    assert first.expected == "what is expected"
    assert first.came == "TypeError: 'NoneType' object is not iterable"


def test_a_case_that_hangs_ends_with_its_time_and_its_connections() -> None:
    ended = threading.Event()

    def hang(bench: Bench) -> None:
        try:
            with bench.line() as line:
                line.socket.settimeout(None)  # as if the deployment sent a byte now and then
                line.socket.recv(1)
        finally:
            ended.set()

    with silent() as url:
        first, second = results(
            a_case(hang), a_case(lambda bench: None, number=1), target=a_target(url, seconds=1.0), concurrency=1
        )
        assert ended.wait(60)
    assert (first.verdict, first.came) == (Verdict.FAIL, "no end within 1 s")
    assert second.verdict is Verdict.PASS


def test_time_factor_gives_a_case_more_time() -> None:
    seconds = []
    case = Case(CASES[0].id, "title", "", lambda bench: seconds.append(bench.seconds_left), time_factor=3)
    results(case, target=a_target(seconds=10.0))
    assert 20 < seconds[0] <= 30


def test_no_more_cases_run_at_a_time_than_allowed() -> None:
    lock, running, most = threading.Lock(), 0, 0
    together = threading.Barrier(2)

    def check(bench: Bench) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        together.wait(60)
        with lock:
            running -= 1

    found = results(*(a_case(check, number=number) for number in range(8)), concurrency=2)
    assert {result.verdict for result in found} == {Verdict.PASS}
    assert most == 2
    assert [result.case.id for result in found] == [case.id for case in CASES[:8]]
