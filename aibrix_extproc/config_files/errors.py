"""Errors in what an operator wrote; the text says where it is and what to do."""


class SourceError(Exception):
    """Text that cannot be used. `transient`: the same text may be good later (a name, a file that it points to)."""

    transient = False


class SourceFormatError(SourceError):
    """The text is wrong until it is edited."""


class SourceLookupError(SourceError):
    """The text is right or unknown, but something is missing: the file, a host name, a file that it points to."""

    transient = True
