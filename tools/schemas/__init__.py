"""Derives the JSON Schemas of `aibrix_extproc/interfaces` from what others publish: SDKs and vLLM."""
