"""What ends a connection."""

from aibrix_extproc.adapters.extproc.lean.frames import ErrorCode


class ConnectionFault(Exception):
    """The peer broke the protocol or passed a bound: the connection must end. Never leaves `Connection`."""

    def __init__(self, code: ErrorCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code
