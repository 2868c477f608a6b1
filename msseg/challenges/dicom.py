"""Folders of DICOM series as a data set folder, with labels where there are any.

SRC/images/CASE/*.dcm  with  SRC/labels/CASE.nii.gz     cases to train on
SRC/CASE/…/*.dcm                                        images to segment, a case a folder of files
"""

from __future__ import annotations

from pathlib import Path

from msseg.challenges.case_folders import folders_below, missing, other_layout
from msseg.challenges.challenge import Challenge, ConversionOptions
from msseg.challenges.form import volume_form
from msseg.challenges.source import Listing, Source
from msseg.data.cases import case_name, list_images
from msseg.data.dicom_files import dicom_files
from msseg.data.problems import Problem

_IMAGES, _LABELS = "images", "labels"
_CHANNELS = ("channel_0",)


def list_cases(source: Path, options: ConversionOptions) -> Listing:
    """A case of every folder with DICOM files, called by the way to it; with its label where `labels/` is there."""
    is_labelled = (source / _IMAGES).is_dir() and (source / _LABELS).is_dir()
    root = source / _IMAGES if (source / _IMAGES).is_dir() else source
    series = {_name(folder, root): folder for folder in folders_below(root) if dicom_files(folder)}
    if not series:
        raise other_layout(source, "folders of DICOM files, a series each")
    labels = {case_name(path): path for path in list_images(source / _LABELS)} if is_labelled else {}
    problems: list[Problem] = []
    if is_labelled:
        remedy = "Add its partner, or move it away."
        problems += [missing(name, series[name], "label", remedy) for name in sorted(series.keys() - labels.keys())]
        problems += [missing(name, labels[name], "series", remedy) for name in sorted(labels.keys() - series.keys())]
        series = {name: folder for name, folder in series.items() if name in labels}
    sources = [Source(name, folder, labels.get(name), not is_labelled) for name, folder in series.items()]
    form = None if is_labelled and not options.labels else volume_form(_CHANNELS, options.labels)
    return Listing(tuple(sources), tuple(problems), options.labels, instances=False, form=form)


def _name(folder: Path, root: Path) -> str:
    return "_".join(folder.relative_to(root).parts) or root.resolve().name


DICOM = Challenge(name="dicom", title="Folders of DICOM series", url="", list_cases=list_cases)
