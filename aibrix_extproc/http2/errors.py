"""The error that ends a connection."""

from aibrix_extproc.http2.frames import ErrorCode


class ProtocolError(Exception):
    """The peer broke the protocol or exceeded a limit, so the connection must end. `Connection` catches it."""

    def __init__(self, code: ErrorCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def describe_other_protocol(data: bytes) -> str:
    """Name the protocol of a peer that does not send the HTTP/2 preface. The text goes to the log."""
    if data[:1] == b"\x16":
        return "this is TLS on a port without it"
    if data[:4].isalpha() or b"HTTP/1" in data:
        return "this is HTTP/1 on a port for gRPC"
    return "this is not HTTP/2"
