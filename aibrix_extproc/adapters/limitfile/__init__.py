"""The file of limits and prices."""
