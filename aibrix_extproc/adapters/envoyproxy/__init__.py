"""A real Envoy for one machine: find the binary, build its configuration, keep it running.

Building a configuration imports `envoy_data_plane`, which takes most of a second: import `configure` only where an
Envoy is really started. Everything else here is cheap.
"""
