"""A gRPC server over HTTP/2 on asyncio, bounded and strict. It imports hpack and the standard library, nothing else.

README.md says how to use it. `server` and `handler` are the interface; `limits`, `listener_limits` and `timeouts`
hold every bound.
"""
