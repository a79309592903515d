"""Counters of limits in this process (`memory.py`), or in a Redis that several gateways share (`redis.py`)."""
