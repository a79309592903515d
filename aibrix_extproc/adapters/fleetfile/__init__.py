"""Endpoints that an operator writes down: a watched YAML file, or flags."""
