"""Asks this gateway, a bare vLLM and other gateways in front of the same vLLM the same cases: `make compare`."""
