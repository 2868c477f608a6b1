"""One case from the file's grid to the network's: transposed, cropped, normalised, resampled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from msseg.errors import DatasetError
from msseg.preprocessing.crop import nonzero_box, nonzero_mask
from msseg.preprocessing.locations import sample_locations
from msseg.preprocessing.normalise import normalise
from msseg.preprocessing.resample import (
    full_spacing,
    resample_image,
    resample_label,
    resampled_shape,
    separate_axis,
)
from planning.plan import Configuration, Plan


@dataclass(frozen=True)
class PreparedCase:
    """A case as the network sees it, and the way back. Shapes, boxes and spacings are in plan order.

    `image` is (c, z, y, x) float32, `label` (z, y, x) or None, `locations` as of `sample_locations` (empty without
    a label). `crop_box` is one (start, stop) an axis; `spacing_mm` is the image's own, `spacing_before_mm` the file's.
    `previous` is the same case as the first network of a cascade sees it.
    """

    image: np.ndarray
    label: np.ndarray | None
    spacing_mm: tuple[float, ...]
    axis_order: tuple[int, ...]
    spacing_before_mm: tuple[float, ...]
    shape_before_crop: tuple[int, ...]
    crop_box: tuple[tuple[int, int], ...]
    locations: dict[int, np.ndarray] = field(default_factory=dict)
    previous: PreparedCase | None = None

    @property
    def shape_after_crop(self) -> tuple[int, ...]:
        """The shape between crop and resampling."""
        return tuple(stop - start for start, stop in self.crop_box)

    @property
    def nbytes(self) -> int:
        """Bytes of the image, for all networks of a cascade."""
        return self.image.nbytes + (0 if self.previous is None else self.previous.nbytes)

    @property
    def properties(self) -> dict[str, Any]:
        """What undoing the preparation takes, as a JSON value."""
        return {
            "axis_order": list(self.axis_order),
            "spacing_before_mm": list(self.spacing_before_mm),
            "shape_before_crop": list(self.shape_before_crop),
            "crop_box": [list(side) for side in self.crop_box],
            "shape_after_crop": list(self.shape_after_crop),
            "spacing_mm": list(self.spacing_mm),
            "shape": list(self.image.shape[1:]),
        }


def preprocess_case(
    image_czyx: np.ndarray,
    label_zyx: np.ndarray | None,
    spacing_mm: Sequence[float] | None,
    plan: Plan,
    configuration: Configuration,
    overwrite: bool = False,
) -> PreparedCase:
    """The case prepared for `configuration`; training and prediction (without a label) take the same way.

    The inputs are left as they are; with `overwrite`, a float32 image is normalised in its own memory. The label holds
    class indices; it stays 0 outside the nonzero mask, where nnU-Net writes -1 and turns it back into 0 when it trains.
    Normalisation comes before resampling, so that the mask fits. `spacing_mm` None is an image whose file tells none:
    it is taken to be as fine as those that were trained on.
    """
    _check_shapes(image_czyx, label_zyx)
    order = plan.axis_order
    image = image_czyx.transpose(0, *(axis + 1 for axis in order))
    before_mm = _spacing_before(spacing_mm, plan, configuration)
    box = nonzero_box(image)
    all_channels = (slice(None), *box)
    shape_before_crop, image = image.shape[1:], image[all_channels]
    masked = any(channel.inside_nonzero_mask for channel in plan.channels)
    image = normalise(image, plan.channels, nonzero_mask(image) if masked else None, overwrite)
    new_shape = resampled_shape(image.shape[1:], before_mm, configuration.spacing_mm)
    apart = separate_axis(before_mm, configuration.spacing_mm)
    label = None
    if label_zyx is not None:
        label = np.ascontiguousarray(label_zyx.transpose(order)[box])
        label = resample_label(label, new_shape, configuration.label_order, apart)
    return PreparedCase(
        image=np.ascontiguousarray(resample_image(image, new_shape, configuration.image_order, apart)),
        label=label,
        spacing_mm=full_spacing(before_mm, configuration.spacing_mm),
        axis_order=tuple(order),
        spacing_before_mm=before_mm,
        shape_before_crop=tuple(shape_before_crop),
        crop_box=tuple((side.start, side.stop) for side in box),
        locations={} if label is None else sample_locations(label),
    )


def _spacing_before(spacing_mm: Sequence[float] | None, plan: Plan, configuration: Configuration) -> tuple[float, ...]:
    """The spacing of a file's image in plan order; 1 where the plan counts in pixels."""
    order = plan.axis_order
    if not plan.has_spacing:
        return (1.0,) * len(order)
    if spacing_mm is None:
        planned = configuration.spacing_mm
        return (max(planned),) * (len(order) - len(planned)) + tuple(planned)
    return tuple(float(spacing_mm[axis]) for axis in order)


def _check_shapes(image_czyx: np.ndarray, label_zyx: np.ndarray | None) -> None:
    if label_zyx is not None and label_zyx.shape != image_czyx.shape[1:]:
        raise DatasetError(
            f"The label has shape {label_zyx.shape}, but its image {image_czyx.shape[1:]}. "
            "Export the label on the image's grid again."
        )
