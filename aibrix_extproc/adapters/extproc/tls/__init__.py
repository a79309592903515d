"""TLS of the listener that Envoy talks to: a certificate with its key, from files or made at start, and who shows it.

`credentials` is what the transports know; `pair`, `files` and `self_signed` are imported only where TLS is on, because
the library `cryptography` takes 11 MB and 30 ms.
"""
