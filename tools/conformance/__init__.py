"""Writes what `aibrix-extproc conformance` knows of fields; it imports nothing of ours itself."""
