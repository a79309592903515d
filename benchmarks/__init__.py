"""A rig: Envoy alone and Envoy with ext_proc servers in turn over the same engines, and what each costs.

Start it with `python -m benchmarks` (or `make bench`). Compare ratios of one run; absolute figures belong to a machine.
"""
