"""The pure layer: no I/O, no clock, no random numbers, no logging, no async. import-linter checks this."""
