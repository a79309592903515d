"""Measures what engines do with every field of every operation, through the gateway: `make measure`.

The results are data of the package, `aibrix_extproc/interfaces/verdicts`; a newer engine shows as a difference there.
"""
