"""Limits on one connection. Those that count frames or streams are token buckets (`token_bucket.py`)."""

from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Limits of one connection, except for the two that name all connections.

    A peer that exceeds a limit loses the connection, the stream or the call, with the error code that fits.
    """

    concurrent_streams: int = 20_000
    # hpack decodes headers in Python: a field takes 3 us, and so do 16 bytes of Huffman code. A field may be one byte
    # that names an entry of the table, so the server limits the number of fields and the work, not only the bytes.
    header_block_bytes: int = 16 * KIB  # HEADERS with all its CONTINUATIONs, compressed
    header_list_bytes: int = 32 * KIB  # the same, decompressed
    header_fields: int = 128  # of one block, with updates of the table's size; gRPC clients send a dozen
    header_work_per_turn: int = 1_000  # fields, and 16 bytes of block count as one; 3 ms. Remembered blocks are free
    continuations: int = 16
    frame_bytes: int = 1 * MIB
    stream_window: int = 4 * MIB
    connection_window: int = 64 * MIB
    whole_message_bytes: int = 1 * MIB  # a handler gets a larger message in pieces; joining 50 MB takes 20 ms
    buffered_bytes: int = 512 * MIB  # all connections: messages that are incomplete or wait for a handler
    unsent_bytes: int = 128 * MIB  # answers that wait for the windows of the peer
    unsent_bytes_together: int = 512 * MIB  # all connections: the same, and what waits in sockets
    frames_per_turn: int = 256  # then other connections have their turn
    # Frames that cost work and carry nothing. Busy peers of some kinds send a PING and two WINDOW_UPDATEs for each
    # answer, so each frame with content earns some. These may come much later: grpcio sends a WINDOW_UPDATE when its
    # application reads, ten thousand in a row if that reads ten thousand streams.
    idle_frames: int = 2_000
    idle_frames_per_second: float = 500.0
    idle_frames_per_useful: float = 4.0
    idle_frames_saved: int = 100_000
    # SETTINGS may change the window of every stream, so fewer of them are allowed.
    settings_frames: int = 100
    settings_per_second: float = 10.0
    settings_per_frame: int = 64
    # Streams that are malformed, broken, or reset before any data came. No gRPC client does that on purpose.
    empty_streams: int = 500
    empty_streams_per_second: float = 100.0
    # Streams that the peer resets before they are answered. Clients that give up cause many at once, but not for ever.
    unanswered_streams: int = 20_000
    unanswered_streams_per_second: float = 1_000.0
