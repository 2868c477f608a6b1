"""What this machine can do, measured once and kept in the user's cache folder."""

from __future__ import annotations

from msseg.machine.profile import cache_folder, known_machine, measured_machine

__all__ = ["cache_folder", "known_machine", "measured_machine"]
