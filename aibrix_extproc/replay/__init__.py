"""Replay: what a trace of requests would have met with another strategy, another fleet or other speeds.

A discrete-event simulation: requests arrive by a trace, a strategy places each, models of engines compute them. Our own
strategies are the very objects that a gateway runs; those of other projects are written in `peers` by their
documentation, for comparison. Nothing here opens a file, reads a clock, or rolls dice that are not seeded.
"""
