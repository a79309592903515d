"""Batches of OpenAI's API: life cycle, lines in and out, shards, and how many requests run at once. Pure."""
