"""`files` and what it shares with `batch`, where no server is needed."""

from pathlib import Path

import pytest
from openai.types import FileObject

from aibrix_extproc.cli.connection import UsageError
from aibrix_extproc.cli.files import _own_name
from aibrix_extproc.cli.sdk_command import first, print_table
from aibrix_extproc.cli.transfers import PART_BYTES, _Counted


def named(name: str) -> FileObject:
    return FileObject(
        id="file-1", object="file", bytes=1, created_at=1, filename=name, purpose="user_data", status="processed"
    )


@pytest.mark.parametrize(
    ("told", "name"), [("a.bin", "a.bin"), ("../../etc/a", "a"), ("C:\\x\\a.bin", "a.bin"), ("日本.txt", "日本.txt")]
)
def test_download_goes_by_the_last_segment_of_the_name_that_the_server_tells(told: str, name: str) -> None:
    assert _own_name(named(told)) == name


@pytest.mark.parametrize("told", ["", "..", ".bashrc", "a\x1b[2J", "a\n", "/"])
def test_name_that_is_hidden_or_cannot_be_seen_is_refused(told: str) -> None:
    with pytest.raises(UsageError, match="name one with --output"):
        _own_name(named(told))


def test_table_does_not_pass_on_what_steers_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("id", "name"), [("1", "a\x1b[31m\nb"), ("22", "c")])
    assert capsys.readouterr().out == "id  name\n1   a?[31m?b\n22  c\n"


def test_no_more_is_asked_for_than_is_shown() -> None:
    pages = iter(range(10))
    assert first(pages, 3) == [0, 1, 2]
    assert first(iter(()), 3) == []
    assert next(pages) == 3


def test_file_says_how_far_it_has_been_read_also_when_it_is_read_again(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 10)
    seen: list[int] = []
    with _Counted(tmp_path / "a") as content:
        content.moved = seen.append
        assert (content.size, len(content.read(4)), len(content.read(PART_BYTES))) == (10, 4, 6)
        content.seek(0)
        content.read(4)
    assert seen == [4, 10, 4]
