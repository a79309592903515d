"""A file with secrets that our processes share, one a line."""
