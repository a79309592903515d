"""Runs the samples of the reference's prose against the stack that the pages name, and records what they print."""
