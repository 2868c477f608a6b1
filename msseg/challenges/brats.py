"""BraTS, gliomas in four registered MR sequences, by year: names of folders and files, and values of labels.

Layouts of the yearly releases (synapse.org, braintumorsegmentation.org): until 2021 `SUBJECT/SUBJECT_t1ce.nii.gz` and
labels 1, 2, 4; from 2023 on `SUBJECT/SUBJECT-t1c.nii.gz`, labels 1, 2, 3, and in 2024 the resection cavity 4. The
values stay as they are, declared as the regions that the challenge ranks: the whole tumour, painted as the oedema that
only it has, its core as the necrotic one, and what enhances. `BraTS-GLI-00005-100` is visit 100 of patient 00005,
`BraTS19_2013_10_1` visit 1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from msseg.challenges.brats_submission import checks, recognisers, writers
from msseg.challenges.case_folders import folders_below, missing, other_layout, says_test, volume
from msseg.challenges.challenge import Challenge, ConversionOptions
from msseg.challenges.form import volume_listing
from msseg.challenges.source import Listing, Source
from msseg.data.problems import Problem

_CHANNELS = ("T1", "T1ce", "T2", "FLAIR")
_OLD, _NEW = ("_t1", "_t1ce", "_t2", "_flair"), ("-t1n", "-t1c", "-t2w", "-t2f")
_OLD_LABELS = {"necrotic_core": 1, "oedema": 2, "enhancing_tumour": 4}
_NEW_LABELS = {"necrotic_core": 1, "oedema": 2, "enhancing_tumour": 3}
_CAVITY = {"resection_cavity": 4}
_PATIENT = r"^(BraTS-[A-Za-z]+-\d+)"
# The one label of 2020 whose name is another.
_ODD_LABELS = {"BraTS20_Training_355": "W39_1998.09.19_Segm"}


def _regions(labels: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    core, oedema, enhancing, *cavity = labels.values()
    regions = {"whole": tuple(sorted((core, oedema, enhancing))), "core": (core, enhancing), "enhancing": (enhancing,)}
    return {**regions, **({"resection_cavity": tuple(cavity)} if cavity else {})}


def _painted(labels: Mapping[str, int]) -> tuple[int, ...]:
    core, oedema, *others = labels.values()
    return (oedema, core, *others)


@dataclass(frozen=True)
class Year:
    """A release: how its subjects are called, what follows a subject's name, its labels, and the patient in a name."""

    subject: str
    endings: tuple[str, ...]
    label_ending: str
    labels: dict[str, int]
    group_by: str | None = None


YEARS = {
    "19": Year(r"BraTS19_.+", _OLD, "_seg", _OLD_LABELS, r"^(BraTS19_.+)_\d+$"),
    "20": Year(r"BraTS20_(Training|Validation)_\d{3}", _OLD, "_seg", _OLD_LABELS),
    "21": Year(r"BraTS2021_\d{5}", _OLD, "_seg", _OLD_LABELS),
    "23": Year(r"BraTS-[A-Za-z]+-\d{5}-\d{3}", _NEW, "-seg", _NEW_LABELS, _PATIENT),
    "24": Year(r"BraTS-GLI-\d{5}-\d{3}", _NEW, "-seg", {**_NEW_LABELS, **_CAVITY}, _PATIENT),
}


def list_cases(source: Path, options: ConversionOptions, year: Year) -> Listing:
    """The subjects of a release below the folder; those of its validation, or where no subject has one, lack labels."""
    subjects = [folder for folder in folders_below(source) if re.fullmatch(year.subject, folder.name)]
    if not subjects:
        raise other_layout(source, f"folders of subjects called as {year.subject}, in it or below")
    is_unlabelled = not any(_label(subject, year) for subject in subjects)
    found = [_source(one, year, is_unlabelled or says_test(one, source)) for one in subjects]
    labels = options.labels or year.labels
    extras = {"group_by": year.group_by} if year.group_by else {}
    listing = volume_listing(found, _CHANNELS, labels, extras=extras)
    if options.labels or listing.form is None:
        return listing
    form = replace(listing.form, regions=_regions(year.labels), painted=_painted(year.labels))
    return replace(listing, form=form)


def _source(subject: Path, year: Year, is_test: bool) -> Source | Problem:
    name = subject.name
    images = [volume(subject / f"{name}{ending}") for ending in year.endings]
    lacking = [ending for ending, image in zip(year.endings, images, strict=True) if image is None]
    if lacking:
        what = "image " + ", ".join(f"{name}{ending}.nii.gz" for ending in lacking)
        return missing(name, subject, what, "Copy it again; every case needs all four sequences.")
    label = _label(subject, year)
    if label is None and not is_test:
        return missing(name, subject / f"{name}{year.label_ending}.nii.gz", "label", "Copy it again.")
    first, *further = [image for image in images if image is not None]
    return Source(name, first, label, is_test, further=tuple(further))


def _label(subject: Path, year: Year) -> Path | None:
    odd = _ODD_LABELS.get(subject.name)
    return volume(subject / f"{subject.name}{year.label_ending}") or (volume(subject / odd) if odd else None)


def _challenge(year: str) -> Challenge:
    return Challenge(
        name=f"brats{year}",
        title=f"BraTS 20{year}, gliomas in MR",
        url="https://www.synapse.org/brats",
        list_cases=partial(list_cases, year=YEARS[year]),
        write=writers[f"brats{year}"],
        check=checks[f"brats{year}"],
        recognise=recognisers[f"brats{year}"],
    )


BRATS19, BRATS20, BRATS21, BRATS23, BRATS24 = map(_challenge, YEARS)
