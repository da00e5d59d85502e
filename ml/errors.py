"""The errors that a user can act on; everything else is a bug."""


class DataError(ValueError):
    """Input that cannot be used. The message names the file, line or field, what was expected and what to do."""


class NotFoundError(LookupError):
    """A user, movie, model or data set that does not exist. The message names it and lists or bounds what does."""
