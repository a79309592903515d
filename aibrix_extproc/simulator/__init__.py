"""A vLLM-compatible inference engine without a GPU, for tests, benchmarks and `aibrix-extproc local`.

It stands alone: nothing in here imports the gateway, so that an error there cannot hide itself
by being made here too. Statuses, bodies and metric names are those of vLLM 0.32.
"""
