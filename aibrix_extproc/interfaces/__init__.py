"""The fields of every operation, to the leaves: JSON Schemas derived from SDKs and vLLM, with our own descriptions.

`schemas/` is written by `make schemas`; `descriptions.toml` by hand.
"""
