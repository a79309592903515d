"""Callers and the hashes of their keys in a YAML file: read, watched, and edited without disturbing the rest of it."""
