"""One module per family of HTTP routes; `table.py` says which route an engine of which task has."""
