"""What can go wrong in the user's hands: one small tree, rooted in `planning.errors.MssegError`."""

from planning.errors import MssegError, PlanError

__all__ = ["CheckpointError", "DatasetError", "MssegError", "PlanError", "ResourceError"]


class DatasetError(MssegError):
    """A data set folder, image or label that is missing, unreadable or contradictory."""


class CheckpointError(MssegError):
    """A model folder or checkpoint that is missing, incomplete or of another plan."""


class ResourceError(MssegError):
    """Memory, disk, device or a worker process gave out."""
