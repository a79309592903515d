"""Which server speaks ext_proc, by the setting."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from aibrix_extproc.adapters.extproc.lean_transport import LeanTransport
from aibrix_extproc.adapters.extproc.service import ExtProcServer
from aibrix_extproc.settings import Transport


def _grpcio(*arguments: Any, **named: Any) -> ExtProcServer:
    """The reference; imported only for those who want it, because that is a tenth of the time that a start takes."""
    from aibrix_extproc.adapters.extproc.grpcio_server import GrpcioServer

    return GrpcioServer(*arguments, **named)


TRANSPORTS: Final[Mapping[Transport, Callable[..., ExtProcServer]]] = MappingProxyType(
    {Transport.GRPCIO: _grpcio, Transport.LEAN: LeanTransport}
)
