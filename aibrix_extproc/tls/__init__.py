"""TLS of the listener that Envoy talks to: the certificate that it shows, and the clients that it lets in.

`credentials` and `peers` are what the transports know. The other modules are imported only where TLS is on, because
the library `cryptography` takes 11 MB and 30 ms.
"""
