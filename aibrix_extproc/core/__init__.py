"""The pure floor: no I/O, no clock, no dice, no logging, no async. import-linter holds this."""
