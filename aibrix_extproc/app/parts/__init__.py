"""The parts of processes, a file for each. `part.py` defines a part."""
