"""Ports, the fleet store, and one composition root per process."""
