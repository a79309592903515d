"""Published figures of other ext_proc servers, measured earlier on another run of the same kind of rig.

Two shared cores, Envoy 1.40 before each of them, an instantaneous engine, the same requests. Only ratios compare.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Peer:
    """Microseconds of CPU of the gateway and of Envoy per request; per chunk for streams. None: not published."""

    name: str
    small_1: tuple[int, int]
    added_p50_ms: float
    small_32: tuple[int, int]
    prompt_1: tuple[int, int] | None
    per_chunk: tuple[float, float] | None
    big_ms: float | None


BARE_THEN: Final = Peer("bare grpc.aio server, three messages", (757, 418), 0.97, (351, 212), (865, 519), (2.4, 45), 22)
PEERS: Final = (
    BARE_THEN,
    Peer("llm-d endpoint picker (Go)", (698, 433), 0.74, (305, 206), (5812, 1057), (146, 78), 111),
    Peer("AIBrix, least-request (Go)", (646, 511), 0.88, (226, 226), (1998, 787), (54, 67), None),
    Peer("AIBrix, prefix-cache (Go)", (961, 632), 1.22, (377, 312), (46860, 3621), None, None),
    Peer("Envoy AI Gateway (Go)", (667, 583), 0.87, (206, 253), (2234, 1140), (71, 86), 19),
    Peer("bare server on the h2 library", (356, 379), 0.63, (150, 129), (824, 544), (0.8, 34), None),
    Peer("bare server, HTTP/2 by hand (prototype)", (153, 362), 0.43, (34, 155), (376, 683), (0, 52), None),
)  # fmt: skip
