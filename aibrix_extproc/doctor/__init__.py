"""Checks of an installation on Kubernetes, as pure functions over its objects."""
