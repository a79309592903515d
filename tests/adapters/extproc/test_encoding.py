"""Which encoded replies are remembered."""

import sys

from aibrix_extproc.adapters.extproc import encoding
from aibrix_extproc.core.exchange.outputs import Continue, Phase


def encoded(path: str) -> bytes:
    return encoding.encode(Continue(Phase.REQUEST_BODY, set_headers=((":path", path),), destination="10.0.0.1:8000"))


def test_long_path_of_a_client_is_encoded_and_not_remembered() -> None:
    path = "/v1/chat/completions?" + "x" * 60_000
    before = sys.getrefcount(path)
    assert path.encode() in encoded(path)
    assert sys.getrefcount(path) == before


def test_short_answer_is_encoded_once() -> None:
    assert encoded("/v1/models") is encoded("/v1/models")
