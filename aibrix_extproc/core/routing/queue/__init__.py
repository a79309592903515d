"""Requests that wait in front of saturated engines: who goes next. Pure; the time is an argument."""
