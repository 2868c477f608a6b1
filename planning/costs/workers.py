"""How many workers memory holds, and how long a pool of them takes."""

from __future__ import annotations

from collections.abc import Sequence

# One worker works in the command's own process.
_ALONE = 1


def pool_bytes(main_bytes: int, worker_bytes: int, work_bytes: Sequence[int], workers: int) -> int:
    """The most memory that the command and its workers hold: the largest cases may meet."""
    largest = sorted(work_bytes, reverse=True)[:workers]
    if workers <= _ALONE or len(work_bytes) <= _ALONE:
        return main_bytes + max(work_bytes, default=0)
    return main_bytes + sum(worker_bytes + one for one in largest)


def affordable_workers(
    main_bytes: int, worker_bytes: int, work_bytes: Sequence[int], workers: int, max_bytes: int | None
) -> int:
    """The most workers, up to `workers`, that stay within `max_bytes`; 0 where not even one does."""
    if max_bytes is None:
        return workers
    fitting = (
        count for count in range(workers, 0, -1) if pool_bytes(main_bytes, worker_bytes, work_bytes, count) <= max_bytes
    )
    return next(fitting, 0)


def pool_speed(workers: int, cores: int, items: int) -> int:
    """How many items are worked on at a time."""
    return max(1, min(workers, cores, items))


def pool_s(seconds: Sequence[float], workers: int, cores: int) -> float:
    """Wall time of items that take so long each: an even share, but never less than the longest."""
    if not seconds:
        return 0.0
    return max(sum(seconds) / pool_speed(workers, cores, len(seconds)), max(seconds))
