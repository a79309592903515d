"""How long the server waits for peers."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timeouts:
    """All in seconds."""

    handshake_seconds: float = 10.0  # for TLS, and again for the preface and SETTINGS
    linger_seconds: float = 1.0  # for the peer to read the last frames before the socket closes
    notice_seconds: float = 0.1  # between the two GOAWAYs of a graceful end; longer than a round trip
    # Frames, header blocks, messages and answers that make no progress for so long end; 50 MB in it are 7 Mbit/s.
    progress_seconds: float = 60.0
