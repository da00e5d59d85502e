"""Define the errors that a user can act on; any other exception is a bug."""


class DataError(ValueError):
    """Input is not valid. The message names the file, line or field, the value, what was expected, and what to do."""


class NotFoundError(LookupError):
    """A user, item, model or data set does not exist. The message names it and says which ones do."""
