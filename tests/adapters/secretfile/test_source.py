"""Files of secrets: what is taken, and what is said of the rest."""

from pathlib import Path

import pytest

from aibrix_extproc.adapters.secretfile.source import MAX_SECRETS, read_secrets
from aibrix_extproc.config_files.errors import SourceError

FIRST, SECOND = "a" * 32, "Zm9vYmFyYmF6cXV4cXV1eHF1dXpjb3JnZWdyYXVsdA=="


def write(folder: Path, text: str) -> Path:
    path = folder / "keys"
    path.write_text(text, encoding="utf-8")
    return path


def test_secrets_come_in_order_without_comments_and_repetitions(tmp_path: Path) -> None:
    path = write(tmp_path, f"# signs\r\n {FIRST}\r\n\r\n{SECOND}\n{FIRST}\n#{'c' * 40}")
    assert read_secrets(path) == (FIRST.encode(), SECOND.encode())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no key"),
        ("# none\n\n", "no key"),
        (f"{FIRST}\n{'a' * 31}", "line 2: not a key"),
        (f"{'a' * 20} {'b' * 20}", "line 1: not a key"),
        ("ä" * 32, "line 1: not a key"),
        ("a" * 513, "line 1: not a key"),
        ("a" * 20_000, "over 16384 bytes"),
        ("\n".join(str(number) * 32 for number in range(MAX_SECRETS + 1)), "at most 8"),
    ],
)
def test_what_is_wrong_is_said_without_the_secret(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(SourceError, match=said) as caught:
        read_secrets(write(tmp_path, text))
    assert FIRST not in str(caught.value)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no-such"):
        read_secrets(tmp_path / "no-such")
