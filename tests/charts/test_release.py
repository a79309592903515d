"""What `make release` writes for Kubernetes."""

from pathlib import Path

import pytest
import yaml

from aibrix_extproc import __version__
from charts.builds import built, folders
from charts.release import IMAGE, check, install_files, main

pytestmark = pytest.mark.slow


def test_changes_name_the_version_and_the_chart_is_current() -> None:
    check()


def test_every_overlay_is_one_file_of_the_same_objects() -> None:
    found = install_files(IMAGE)
    assert set(found) == {f"install-{name.removeprefix('overlays/')}.yaml" for name in folders("overlays")}
    for name in folders("overlays"):
        text = found[f"install-{name.removeprefix('overlays/')}.yaml"]
        assert [thing for thing in yaml.safe_load_all(text) if thing] == list(built(name))
        assert __version__ in text.splitlines()[0]


def test_image_of_a_registry_stands_in_every_place(tmp_path: Path) -> None:
    assert main([str(tmp_path), "--image", "registry.example.com/x:7"]) == 0
    text = (tmp_path / "install-try.yaml").read_text()
    assert text.count("image: registry.example.com/x:7\n") == 5  # one of them in the Job that makes the Secret
    assert IMAGE not in text
