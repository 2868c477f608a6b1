"""Challenges: their data in, their submission files out, each with its own check."""
