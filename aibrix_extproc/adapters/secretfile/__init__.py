"""A file with secrets that our processes share, one a line; watched and read again."""
