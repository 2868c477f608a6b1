"""nnU-Net v2's trained models, read as data: its checkpoints, its plans, the names of its weights."""
