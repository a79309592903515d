"""Sends engine operations to engines."""
