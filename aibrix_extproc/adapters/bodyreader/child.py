"""The reader process: `python -m aibrix_extproc.adapters.bodyreader.child FD [HOST ...]`.

It is asked on stdin and answers on stdout, and runs the very function that reads small bodies in the gateway. It ends
when its stdin does, so it never outlives the gateway.
"""

import gc
import os
import signal
import sys

from aibrix_extproc.adapters.bodyreader.wire import LENGTH, QUESTION, READY, Report, encode
from aibrix_extproc.core.openai.contract.errors import Problem
from aibrix_extproc.core.openai.wire.request import RequestFacts, read_json


def main(file: int, media_hosts: tuple[str, ...]) -> None:
    """Read one body after the other."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal; the gateway decides
    gc.disable()  # nothing here is a cycle
    questions, answers = sys.stdin.buffer, sys.stdout.buffer
    answers.write(READY)
    answers.flush()
    while len(question := questions.read(QUESTION.size)) == QUESTION.size:
        size, sized, prefix_seed = QUESTION.unpack(question)
        answer = encode(_report(read_json(_body(file, size), media_hosts, sized=sized, prefix_seed=prefix_seed)))
        os.ftruncate(file, 0)  # gives the memory back, here rather than in the gateway
        answers.write(LENGTH.pack(len(answer)) + answer)
        answers.flush()


def _body(file: int, size: int) -> bytes:
    body = os.pread(file, size, 0)
    if len(body) != size:
        raise OSError(f"{len(body)} bytes of a body of {size}")
    return body


def _report(facts: RequestFacts | Problem) -> Report:
    if isinstance(facts, Problem):
        return Report(problem=facts)
    return Report(facts)


if __name__ == "__main__":
    main(int(sys.argv[1]), tuple(sys.argv[2:]))
