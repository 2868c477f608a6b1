"""Networks: grids of blocks, from a plan."""

from msseg.networks.build import build_network

__all__ = ["build_network"]
