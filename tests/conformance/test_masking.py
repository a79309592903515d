"""Texts that may be shown: no keys, one line, bounded."""

import pytest

from aibrix_extproc.conformance.masking import MOST_CHARACTERS, Mask, bounded


@pytest.mark.parametrize(
    ("secrets", "text", "shown"),
    [(("sk-0123456789",), "key sk-0123456789!", "key ***!"),
     (("sk-0123456789", "sk-0123456789abc"), "sk-0123456789abc", "***"),
     (("sk-0123456789",), "xsk-0123456789y", "x***y"),
     (("key",), "key monkey key-ring Bearer key", "*** monkey key-ring Bearer ***"),
     ((), "nothing to hide", "nothing to hide"),
     (("a.c",), "abc a.c", "abc ***")],
    ids=["long", "longest-first", "inside", "short", "none", "no-pattern"],
)  # fmt: skip
def test_keys_do_not_show(secrets: tuple[str, ...], text: str, shown: str) -> None:
    assert Mask(secrets)(text) == shown


def test_a_text_is_one_printable_line() -> None:
    assert Mask(())("a\r\n\tb\x1b[31m\x00é\ud800") == "a b\\x1b[31m\\x00é\\ud800"


def test_a_text_is_bounded_after_its_keys_are_hidden() -> None:
    key = "sk-0123456789"
    text = Mask((key,))("x" * (MOST_CHARACTERS - 5) + key + "y" * MOST_CHARACTERS)
    assert len(text) == MOST_CHARACTERS
    assert "sk-" not in text
    assert bounded("abcdef", 5) == "ab..."
    assert bounded("abcde", 5) == "abcde"
