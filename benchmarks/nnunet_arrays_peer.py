"""nnU-Net's side of `nnunet_arrays.py`: one case prepared as a request on the standard input asks.

Runs in the Python environment that nnU-Net is installed in; prints its processor seconds as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager

RESAMPLING = {"force_separate_z": None, "is_seg": False, "order": 3, "order_z": 0}


def configuration(request: dict[str, Any]) -> ConfigurationManager:
    """nnU-Net's default resampling at the request's spacing and schemes."""
    function = "resample_data_or_seg_to_shape"
    return ConfigurationManager(
        {
            "architecture": {},
            "spacing": request["spacing_mm"],
            "normalization_schemes": request["schemes"],
            "use_mask_for_norm": request["masks"],
            "resampling_fn_data": function,
            "resampling_fn_data_kwargs": RESAMPLING,
            "resampling_fn_seg": function,
            "resampling_fn_seg_kwargs": {**RESAMPLING, "is_seg": True, "order": 1},
        }
    )


def plan(request: dict[str, Any]) -> SimpleNamespace:
    """The parts of nnU-Net's plans that preparing a case reads; no locations are sampled."""
    labels = SimpleNamespace(has_regions=False, foreground_labels=[], has_ignore_label=False, all_labels=[])
    return SimpleNamespace(
        transpose_forward=request["transpose"],
        foreground_intensity_properties_per_channel=request["intensities"],
        image_reader_writer_class=SimpleITKIO,
        get_label_manager=lambda _: labels,
    )


def main() -> None:
    request = json.load(sys.stdin)
    start = time.process_time()
    preprocessor = DefaultPreprocessor(verbose=False)
    data, seg, _ = preprocessor.run_case(request["images"], request["label"], plan(request), configuration(request), {})
    seconds = time.process_time() - start
    out = Path(request["out"])
    np.save(out / "data.npy", data)
    np.save(out / "seg.npy", seg)
    print(json.dumps({"seconds": seconds}))


if __name__ == "__main__":
    main()
