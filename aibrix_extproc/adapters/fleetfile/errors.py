"""What can be wrong with a fleet that somebody wrote down; the text says where it is and what to do."""


class FleetError(Exception):
    """A fleet that cannot be used. `transient`: the same text may be good later (a name, a key file)."""

    transient = False


class FleetFormatError(FleetError):
    """The text is wrong and stays wrong until somebody edits it."""


class FleetLookupError(FleetError):
    """The text is right, but what it points to is missing: a file, a host name, a key file."""

    transient = True
