"""The settings of exchanges, as values."""

from collections.abc import Callable
from dataclasses import dataclass

from aibrix_extproc.core.placing import ATTEMPTS

MIB = 1024 * 1024
WAIT_SHARE = 0.8  # of the time that Envoy waits for us; the rest is for the network
AUDIO_FORM_BYTES = 25 * MIB  # as with OpenAI, which counts the whole form


def no_prefix() -> int:
    """Of a gateway that needs no prefixes."""
    return 0


@dataclass(frozen=True, slots=True)
class ExchangePolicy:
    """Bounds and switches of one gateway, the same for every exchange."""

    max_body_bytes: int = 50 * MIB
    max_audio_bytes: int = AUDIO_FORM_BYTES
    media_hosts: tuple[str, ...] = ()  # whose URLs engines may fetch, as patterns; none: engines decide
    metering: bool = False  # ask engines for the usage of streams, leave dynamic metadata for filter and access log
    max_wait_seconds: float = 600.0  # longest time to the response's head; a client may ask for less
    message_seconds: float = 5.0  # how long Envoy waits for our answer to a message
    longest_message_seconds: float = 0.0  # the same if we ask it to; 0: as long as what we wait for takes
    is_picker: bool = False  # asked by a gateway of the Inference Extension: its assumptions and headers hold
    health_path: str = ""  # answered without a key, for load balancers; empty for none
    metadata: bool = False  # files, uploads and batches go to the metadata service; without it they are unknown URLs
    destinations: int = ATTEMPTS  # addresses in the destination header
    names_sessions: bool = False  # engines get the request's id as the session of their cache events
    tells_priority: bool = False  # engines get a priority by the request's class
    prefix_seed: Callable[[], int] = no_prefix  # of the hashes of prompts; 0 while no strategy needs them
