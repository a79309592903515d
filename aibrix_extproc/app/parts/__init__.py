"""What runs in a process beside its servers, a file for each part. `part.py` says what a part is."""
