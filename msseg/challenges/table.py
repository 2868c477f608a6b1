"""The challenges by name; each is loaded when it is asked for."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial

from msseg.challenges.challenge import Challenge
from msseg.errors import DatasetError

# Name, and the module below msseg.challenges with the object that describes it.
_PLACES = {
    "dsb2018": ("dsb2018", "DSB2018"),
    "isbi2012": ("isbi2012", "ISBI2012"),
    "kits19": ("kits19", "KITS19"),
    "kits23": ("kits19", "KITS23"),
    "lits17": ("lits17", "LITS17"),
    "chaos_ct": ("chaos", "CHAOS_CT"),
    "chaos_t1": ("chaos", "CHAOS_T1"),
    "chaos_t2": ("chaos", "CHAOS_T2"),
    "acdc": ("acdc", "ACDC"),
    "decathlon": ("decathlon", "DECATHLON"),
    "brats19": ("brats", "BRATS19"),
    "brats20": ("brats", "BRATS20"),
    "brats21": ("brats", "BRATS21"),
    "brats23": ("brats", "BRATS23"),
    "brats24": ("brats", "BRATS24"),
    "nnunet_v1": ("described", "NNUNET_V1"),
    "nnunet_v2": ("described", "NNUNET_V2"),
    "dicom": ("dicom", "DICOM"),
    "luna16": ("luna16", "LUNA16"),
    "lidc": ("lidc", "LIDC"),
    "chaos": ("chaos", "CHAOS"),
    "folder": ("folder", "FOLDER"),
}


def _load(module: str, name: str) -> Challenge:
    challenge = getattr(importlib.import_module(f"msseg.challenges.{module}"), name)
    assert isinstance(challenge, Challenge)
    return challenge


CHALLENGES: dict[str, Callable[[], Challenge]] = {name: partial(_load, *place) for name, place in _PLACES.items()}


def find_challenge(name: str) -> Challenge:
    """The challenge of that name; DatasetError that lists the known ones for any other."""
    if name not in CHALLENGES:
        raise DatasetError(f"{name}: no such challenge. Known are {', '.join(CHALLENGES)}.")
    return CHALLENGES[name]()
