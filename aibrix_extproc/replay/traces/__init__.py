"""Readers of traces: lines in, a trace out. None opens a file."""
