"""The root of the error tree, and the planner's own branch of it."""


class MssegError(Exception):
    """Anything the user can mend; the message names the file, what was found, what was expected, what to do."""


class PlanError(MssegError):
    """A fingerprint or plan that is malformed, contradicts itself, or cannot be met."""
