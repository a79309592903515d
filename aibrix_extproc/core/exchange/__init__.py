"""One HTTP request and its response as seen through ext_proc: events in, outputs out, nothing else.

The machine never awaits, never reads a clock and never sends. It does not know protobuf, gRPC, the fleet's store or
the key file: what it needs from them it asks for (`outputs.Ask`), and the shell comes back with an event.
"""
