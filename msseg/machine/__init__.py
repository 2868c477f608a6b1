"""What this machine can do, measured once and kept in the user's cache folder."""

from __future__ import annotations

from msseg.machine.profile import cache_folder, measured_machine

__all__ = ["cache_folder", "measured_machine"]
