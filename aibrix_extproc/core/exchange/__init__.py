"""One HTTP request and its response as seen through ext_proc: events in, outputs out, nothing else.

The machine does no I/O: it does not await, read a clock or send. It imports no protobuf and no gRPC. If it needs the
fleet or the keys, it returns an ask (`asks.py`); the caller, `adapters/extproc/session.py`, feeds the answer back as an
event.
"""
