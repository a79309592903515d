"""Prefill/decode disaggregation: which engine computes the prompt for the one that answers, and whether one should."""
