"""Limits: what may be limited and how it is written, bucket arithmetic, estimates. Pure; the time is an argument."""
