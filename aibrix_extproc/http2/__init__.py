"""A gRPC server over HTTP/2 on an asyncio.Protocol, for handlers that answer at once.

`frames` knows bytes, `connection` HTTP/2 (no I/O, no clock of its own), `calls` gRPC, `server` sockets and the loop.
"""
