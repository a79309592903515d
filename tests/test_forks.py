"""Tests that run in forks are reported as if they had run here, also if their process dies."""

import re
import subprocess
import sys
from pathlib import Path

from tests.warm import ROOT

SHARED = """
import os, pathlib, pytest
HERE = pathlib.Path(__file__).parent

@pytest.fixture(scope="module")
def made():
    yield os.getpid()
    (HERE / "torn").write_text(str(os.getpid()))

@pytest.fixture(scope="session")
def lasting():
    yield os.getpid()
    (HERE / f"lasting-{os.getpid()}").touch()

@pytest.mark.slow
@pytest.mark.parametrize("number", range(3))
def test_shared(made, lasting, number):
    with (HERE / "pids").open("a") as pids:
        pids.write(f"{os.getpid()} {made} {lasting}\\n")
"""
SINGLE = """
import os, pytest

@pytest.mark.parametrize("word", ["good", "bad"])
def test_word(word, tmp_path, capsys):
    print("said", word)
    assert word == "good"

@pytest.mark.slow
@pytest.mark.parametrize("number", range(3))
def test_slow(number):
    pass

@pytest.mark.skip(reason="why not")
def test_skipped():
    pass
"""
DEADLY = """
import os

def test_before():
    pass

def test_deadly():
    os._exit(3)

def test_behind():
    pass
"""
MODULES = {"shared": SHARED, "single": SINGLE, "deadly": DEADLY}


def run(folder: Path, *names: str, options: tuple[str, ...] = ()) -> str:
    for name in names:
        (folder / f"test_{name}.py").write_text(MODULES[name])
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = slow\n")
    plugins = ("-p", "tests.forks", "-p", "no:asyncio")
    command = [sys.executable, "-m", "pytest", *plugins, "--forks", "2", "--rootdir", str(folder), "-rA", *options]
    done = subprocess.run([*command, str(folder)], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stderr == ""
    return done.stdout


def test_every_test_is_reported_by_its_name_and_fixtures_are_shared_and_torn_down(tmp_path: Path) -> None:
    text = run(tmp_path, "shared", "single")
    assert re.search(r"1 failed, 7 passed, 1 skipped", text), text
    assert re.findall(r"^FAILED \S*?(test_\w+\.py::\S+)", text, re.MULTILINE) == ["test_single.py::test_word[bad]"]
    assert "said bad" in text
    (pid,) = {*(tmp_path / "pids").read_text().split()}
    assert (tmp_path / "torn").read_text() == pid
    assert (tmp_path / f"lasting-{pid}").exists()


def test_process_that_dies_fails_its_test_and_no_other(tmp_path: Path) -> None:
    text = run(tmp_path, "deadly")
    assert re.search(r"1 failed, 2 passed", text), text
    assert re.search(r"_ test_deadly _+\nthe process that ran it ended with 3", text), text


def test_first_failure_may_be_the_last(tmp_path: Path) -> None:
    text = run(tmp_path, "single", options=("-x",))
    assert re.search(r"stopping after 1 failure.*1 failed", text, re.DOTALL), text
