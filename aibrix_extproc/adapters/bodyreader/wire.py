"""Messages between the gateway and its reader process. The body itself lies in a memory file that both map."""

import struct
from typing import Final

import msgspec

from aibrix_extproc.core.openai.contract.errors import Problem
from aibrix_extproc.core.openai.wire.request import RequestFacts

QUESTION: Final = struct.Struct(">Q?Q")  # bytes of the body, whether its sizes are asked for, seed of its prefix or 0
READY: Final = b"R"  # the process's first byte: it has started and waits for questions
LENGTH: Final = struct.Struct(">I")  # of the answer that follows
MAX_ANSWER_BYTES: Final = 1024 * 1024


class Report(msgspec.Struct, frozen=True, gc=False):
    """The reader process's answer for a body: facts, or a problem."""

    facts: RequestFacts | None = None
    problem: Problem | None = None


encode: Final = msgspec.msgpack.Encoder().encode
decode: Final = msgspec.msgpack.Decoder(Report).decode
