"""Which engine probably has which part of a prompt in its prefix cache."""
