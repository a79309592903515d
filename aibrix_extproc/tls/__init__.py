"""TLS of the listener that Envoy connects to: its certificate, and the clients that it accepts.

The transports import `credentials` and `peers`. The other modules are imported only where TLS is on: their library
`cryptography` takes 11 MB and 30 ms.
"""
