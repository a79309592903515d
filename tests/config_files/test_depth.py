"""Nesting is bounded by our rule and in our words, whichever version of PyYAML and of libyaml is installed."""

from pathlib import Path

import pytest
import yaml

from aibrix_extproc.app.doctor import DoctorError, examine_files
from aibrix_extproc.config_files import depth
from aibrix_extproc.config_files.depth import MAX_FOREIGN_DEPTH, MAX_OWN_DEPTH, TooDeepError, refuse_depth
from aibrix_extproc.config_files.errors import SourceFormatError
from aibrix_extproc.config_files.nodes import compose
from aibrix_extproc.settings import SettingsError, load

SHAPES = {
    "lists": "[", "fields": "{", "fields-of-fields": "{a: ", "items": "- ", "keys": "? ", "list-of-fields": "[{b: ",
    "wide": "[ab, ",
}  # fmt: skip
each_shape = pytest.mark.parametrize("opener", SHAPES.values(), ids=SHAPES)
# 1,000 is libyaml's own bound, and 1,024 characters are what a scanner looks ahead at.
each_depth = pytest.mark.parametrize("levels", [MAX_OWN_DEPTH + 1, 100, 999, 1_001, 1_100, 30_000])


@each_shape
@each_depth
@pytest.mark.parametrize("before", ["", "# a note\n", "\ufeff", "'é': [\n"], ids=["bare", "note", "mark", "inside"])
def test_deep_nesting_is_refused_in_our_words(opener: str, levels: int, before: str) -> None:
    if before.endswith("[\n") and opener in ("- ", "? "):
        opener = "["  # block style cannot stand inside of flow style
    with pytest.raises(SourceFormatError) as caught:
        compose(before + opener * levels, "keys.yaml")
    assert str(caught.value).startswith("keys.yaml, line ")
    assert str(caught.value).endswith(f": {depth.TOO_DEEP}")


def test_deep_nesting_by_indentation_is_refused_with_its_line() -> None:
    text = "".join(f"{' ' * level}a:\n" for level in range(2_000))
    with pytest.raises(SourceFormatError, match=rf"^f\.yaml, line {MAX_OWN_DEPTH + 1}: nested too deeply"):
        compose(text, "f.yaml")


@pytest.mark.parametrize("limit", [1, MAX_OWN_DEPTH, MAX_FOREIGN_DEPTH])
def test_bound_is_exact_and_siblings_do_not_add_up(limit: int) -> None:
    fits = "[" * (limit - 1) + "[], [], []" + "]" * (limit - 1) if limit > 1 else "[]"
    refuse_depth(fits, limit)
    refuse_depth("\n".join(f"--- {fits}" for _ in range(3)), limit)
    with pytest.raises(TooDeepError):
        refuse_depth(f"[{fits}]", limit)


@pytest.mark.parametrize(
    "text", ["a: '" + "[" * 50_000 + "'", "# " + "{" * 50_000 + "\na: 1", "a: |\n  " + "[" * 5_000]
)
def test_brackets_in_texts_and_notes_are_no_nesting(text: str) -> None:
    refuse_depth(text, MAX_OWN_DEPTH)


@pytest.mark.parametrize("text", ["[" * 3, "{a: [", "a: b: c", "\t", "'"])
def test_other_mistakes_keep_their_own_words(text: str) -> None:
    with pytest.raises(yaml.YAMLError) as caught:
        refuse_depth(text, MAX_OWN_DEPTH)
    assert not isinstance(caught.value, TooDeepError)


@each_shape
def test_settings_file_that_nests_deeply_is_one_sentence(opener: str, tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(opener * 5_000)
    with pytest.raises(SettingsError) as caught:
        load(file=path)
    assert str(caught.value) == f"{path}, line 1 is not valid YAML: {depth.TOO_DEEP}"


@each_shape
def test_manifest_that_nests_deeply_is_one_sentence_of_the_doctor(opener: str, tmp_path: Path) -> None:
    path = tmp_path / "manifest.yaml"
    path.write_text(opener * 5_000)
    with path.open() as file, pytest.raises(DoctorError, match="is not valid YAML: nested too deeply"):
        examine_files([file])
