"""Reads large JSON bodies in a process of its own: no thread would do, since a parser holds the interpreter's lock."""
