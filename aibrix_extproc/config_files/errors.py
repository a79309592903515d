"""What can be wrong with something that an operator wrote down; the text says where it is and what to do."""


class SourceError(Exception):
    """Text that cannot be used. `transient`: the same text may be good later (a name, a file that it points to)."""

    transient = False


class SourceFormatError(SourceError):
    """The text is wrong and stays wrong until somebody edits it."""


class SourceLookupError(SourceError):
    """The text is right or unknown, but something is missing: the file, a host name, a file that it points to."""

    transient = True
