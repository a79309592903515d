"""The last control state of a gateway in a file, for a start while the metadata service is away."""
