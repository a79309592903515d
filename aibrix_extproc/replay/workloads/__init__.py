"""Generators of traces. Each is seeded, and gives the same trace for the same seed on every machine."""
