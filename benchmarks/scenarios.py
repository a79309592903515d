"""What is measured, as a table. A scenario is one kind of request at one concurrency, sent to every target in turn."""

from dataclasses import dataclass
from typing import Final

from benchmarks.keys import BARE, BARE_H2, BARE_LEAN, METERED_REFERENCE, PLAIN, REFERENCE
from benchmarks.wire import SMALL_BODY_BYTES

STREAM_CHUNKS: Final = 500
PACED_MS: Final = 4
HELD_STREAMS: Final = 1000
PROMPT_BYTES: Final = 220_000
BIG_BYTES: Final = 5_000_000


@dataclass(frozen=True, slots=True)
class Scenario:
    """One row. `requests` is what one sample of a full run sends; `chunks` counts the events before `[DONE]`."""

    key: str
    title: str
    connections: int = 1
    requests: int = 0  # 0: send nothing, watch for `idle_seconds`
    body_bytes: int = SMALL_BODY_BYTES
    chunks: int = 0
    answer_bytes: int = 0  # of a whole answer; 0: a small one
    pace_ms: float = 0
    idle_seconds: float = 0
    rounds: int | None = None  # fewer than the run's, for what is slow and steady
    not_on: tuple[str, ...] = ()  # targets that are spared

    @property
    def reply(self) -> str:
        """The answer that the engine is to give."""
        if self.chunks:
            return f"stream;chunks={self.chunks};pace_ms={self.pace_ms:g}"
        return f"whole;bytes={self.answer_bytes}" if self.answer_bytes else ""

    @property
    def expected_events(self) -> int:
        """Events of a whole stream, `[DONE]` included."""
        return self.chunks + 1 if self.chunks else 0

    def sample_size(self, quick: bool) -> int:
        """Requests of one sample; a quick one sends a quarter, but never fewer than one on each connection."""
        return max(self.connections, self.requests // 4) if quick else self.requests

    def warmup_size(self, quick: bool) -> int:
        """Requests sent before, so that connections exist; paced streams only cost time here."""
        if self.pace_ms or self.requests == 0:
            return 0
        return max(self.connections, self.sample_size(quick) // 10)


SCENARIOS: Final[dict[str, Scenario]] = {
    scenario.key: scenario
    for scenario in (
        Scenario("idle", "nothing", idle_seconds=2.0),
        Scenario("small-1", "1 KB chat, 1 client", 1, 1200),
        Scenario("small-32", "1 KB chat, 32 clients", 32, 12000),
        Scenario("answer-1k5", "1 KB chat with an answer of 1.5 KB, 32 clients", 32, 8000, answer_bytes=1_500),
        Scenario("answer-60k", "1 KB chat with an answer of 60 KB, 32 clients", 32, 4000, answer_bytes=60_000),
        Scenario("prompt-1", "220 KB prompt, 1 client", 1, 400, PROMPT_BYTES),
        Scenario("prompt-8", "220 KB prompt, 8 clients", 8, 600, PROMPT_BYTES),
        Scenario("big-1", "5 MB body, 1 client", 1, 16, BIG_BYTES),
        Scenario("big-4", "5 MB body, 4 clients", 4, 24, BIG_BYTES),
        Scenario("stream-1", f"stream of {STREAM_CHUNKS} chunks back to back, 1 client", 1, 60, chunks=STREAM_CHUNKS),
        Scenario(
            "paced-16", f"stream of {STREAM_CHUNKS} chunks every {PACED_MS} ms, 16 clients", 16, 16,
            chunks=STREAM_CHUNKS, pace_ms=PACED_MS, rounds=2,
        ),
        Scenario(
            "held-1000", f"{HELD_STREAMS} concurrent streams of 20 chunks every 250 ms", HELD_STREAMS, HELD_STREAMS,
            chunks=20, pace_ms=250, rounds=1, not_on=(PLAIN,),
        ),
        Scenario(
            "held-5000", "5000 concurrent streams of 10 chunks every 3 s", 5000, 5000,
            chunks=10, pace_ms=3000, rounds=1, not_on=(PLAIN, BARE, BARE_H2, BARE_LEAN, REFERENCE, METERED_REFERENCE),
        ),
    )
}  # fmt: skip
