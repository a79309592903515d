"""Follows the cache events that vLLM publishes on a ZMQ socket. Nothing of a prompt is read: tokens are skipped."""
