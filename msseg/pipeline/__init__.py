"""The steps of the line as a Python API; the only place where the rooms meet."""
