"""What ends a connection."""

from aibrix_extproc.http2.frames import ErrorCode


class ProtocolError(Exception):
    """The peer broke the protocol or passed a bound: the connection must end. Never leaves `Connection`."""

    def __init__(self, code: ErrorCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def describe_other_protocol(data: bytes) -> str:
    """What a peer speaks that does not speak HTTP/2, for whoever configured it."""
    if data[:1] == b"\x16":
        return "this is TLS on a port without it"
    if data[:4].isalpha() or b"HTTP/1" in data:
        return "this is HTTP/1 on a port for gRPC"
    return "this is not HTTP/2"
