"""Where the microseconds of a request go: the part of the page that takes them apart, in words, tables and profiles."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.keys import BARE, BARE_LEAN, LEAN, REFERENCE
from benchmarks.report import number, table
from benchmarks.results import Results, ext_proc_us


@dataclass(frozen=True, slots=True)
class Step:
    """A part of one exchange and what it takes, in microseconds."""

    name: str
    us: float


Profile = Mapping[str, float]
"""Own time by module as a share of all."""


@dataclass(frozen=True, slots=True)
class Inside:
    """What was measured in one thread without a network, each by kind of request."""

    steps: Mapping[str, Sequence[Step]]  # of an exchange; the last one is the whole
    exchange: Mapping[str, Profile]
    framing_us: Mapping[str, float]
    framing: Mapping[str, Profile]


def section(results: Results, inside: Inside) -> Sequence[str]:
    """Paragraphs and tables."""
    framing = table(
        ("without a socket", *inside.framing_us),
        [("HTTP/2 and gRPC of an exchange, µs", *(number(us, 1) for us in inside.framing_us.values()))],
    )
    return (
        "## Where the microseconds go",
        _WORDS,
        transport_table(results, inside.steps),
        "### The exchange",
        _STEPS,
        steps_table(inside.steps),
        _PROFILE,
        profile_table(inside.exchange),
        "### HTTP/2 and gRPC",
        _FRAMING,
        framing,
        profile_table(inside.framing),
    )


def steps_table(steps: Mapping[str, Sequence[Step]]) -> str:
    """The parts of one exchange; one column for each kind of request."""
    first = next(iter(steps.values()))
    rows = [(one.name, *(f"{column[i].us:.1f}" for column in steps.values())) for i, one in enumerate(first)]
    return table(("step", *(f"{title}, µs" for title in steps)), rows)


def transport_table(results: Results, steps: Mapping[str, Sequence[Step]]) -> str:
    """What our servers cost behind Envoy, split into transport, exchange and the rest."""
    rows = [
        (title, transport, *map(number, parts))
        for title, scenario, kind in _SPLIT
        for transport, target, floor in _TRANSPORTS
        if kind in steps and (parts := _split(results, scenario, target, floor, steps[kind][-1].us)) is not None
    ]
    return table(("request", "server", "transport (*bare*)", "exchange", "the rest", "together"), rows)


def _split(
    results: Results, scenario: str, target: str, floor: str, exchange: float
) -> tuple[float, float, float, float] | None:
    whole = results.median(scenario, target, ext_proc_us)
    bare = results.median(scenario, floor, ext_proc_us)
    return None if whole is None or bare is None else (bare, exchange, whole - bare - exchange, whole)


def profile_table(profiles: Mapping[str, Mapping[str, float]]) -> str:
    """Shares of modules, those that reach one percent of some kind of request; ordered by the first kind."""
    names = sorted(
        {name for shares in profiles.values() for name, share in shares.items() if share >= 0.01},
        key=lambda name: -next(iter(profiles.values())).get(name, 0.0),
    )
    rows = [(name, *(f"{shares.get(name, 0.0):.0%}" for shares in profiles.values())) for name in names]
    return table(("module", *profiles), rows)


_WORDS: Final = """A request is an exchange of three messages with Envoy (the request's head, its body, the answer's
head), each of which gets an answer. The server pays for it in three places:

- **Transport**: the kernel hands over bytes and takes some, the event loop wakes up, HTTP/2 frames become messages and
  answers become frames. The *bare* server on the same transport answers with constants, so what it takes is this and
  nothing else. With one client each message is a wake-up, a read and a write of its own. With 32, messages of many
  requests come in one read and their answers leave in one write, so that a request costs a fraction. `grpc.aio` gains
  less by that: it does HTTP/2 in threads of its own, hands each message over to the event loop's thread, and takes the
  answer back. The lean transport has one thread, and no task or coroutine for what can be answered at once.
- **Exchange**: what we are here for. Read the message, find out who calls, which model is asked for and which engine
  takes it, count, and write the answer. Hardly anything of it depends on the transport.
- **The rest**: what no part shows by itself. The parts are measured in tight loops, where the processor's caches are
  warm; a request that comes alone finds them cold. Large bodies come in many reads. With `grpcio`, threads of gRPC
  also wait for Python's lock while the exchange runs.

Behind Envoy, µs of CPU of the server per request:"""
_STEPS: Final = """The shipped wiring fed with Envoy's three messages in one thread, without gRPC and network: best
of many short series (`python -m benchmarks.inside`, `--profile` for each function). In the order of the table: bytes
become protobuf objects; of these the few headers that are read; the machine matches the operation, reads model
and flags of the body (it reads the whole JSON, so this grows with the prompt) and makes the answers. *Answer*
is what it asks for: *Authenticate* finds the caller by the key, *Place* ranks the engines. *Observe* is bookkeeping:
load of engines, metrics, log. Then answers become bytes. The session passes all of it on."""
_PROFILE: Final = """The same under cProfile: shares of own time by module, with what is written in C (protobuf,
msgspec, regular expressions) where it is called. A profiler makes small functions seem more expensive than they are."""
_FRAMING: Final = """The bare server's frames fed with those of Envoy, one exchange after the other, without socket and
event loop (`benchmarks/framing.py`). What the *bare* server takes beyond this with one client is the kernel's and the
loop's. With many clients it may take less than this: a read then holds many frames. Below, the files that take it
(ARCHITECTURE.md says what each does); header blocks are decoded once, since Envoy's are all alike, and large bodies are
copied once."""
_SPLIT: Final = (
    ("1 KB chat, 1 client", "small-1", "1 KB chat"),
    ("1 KB chat, 32 clients", "small-32", "1 KB chat"),
    ("220 KB prompt, 1 client", "prompt-1", "220 KB prompt"),
    ("220 KB prompt, 8 clients", "prompt-8", "220 KB prompt"),
)
_TRANSPORTS: Final = (("grpcio", REFERENCE, BARE), ("lean", LEAN, BARE_LEAN))
