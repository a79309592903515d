"""Builds the documentation as a static site with search."""
