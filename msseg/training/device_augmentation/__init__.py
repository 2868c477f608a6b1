"""Augmentation by torch, on the device that trains: drawn on the CPU by numpy, applied where the batch is."""
