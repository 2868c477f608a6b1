"""msseg: a data set folder in, evaluated segmentations and submissions out.

    from msseg import plan_and_preprocess, train, predict, evaluate

Names are loaded when first used, so that `import msseg` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_PLACES = {
    "plan_and_preprocess": "msseg.pipeline.planning",
    "PlanningOptions": "msseg.pipeline.planning",
    "train": "msseg.pipeline.training",
    "TrainingOptions": "msseg.pipeline.training_options",
    "predict": "msseg.pipeline.prediction",
    "load_predictor": "msseg.pipeline.prediction",
    "PredictionOptions": "msseg.inference.predictor",
    "Predictor": "msseg.inference.predictor",
    "evaluate": "msseg.pipeline.evaluation",
    "train_all_folds": "msseg.pipeline.folds",
    "find_best": "msseg.pipeline.find_best",
    "FindBestOptions": "msseg.pipeline.find_best",
    "predict_inference": "msseg.pipeline.inference_prediction",
    "ensemble": "msseg.pipeline.ensemble",
    "EnsembleOptions": "msseg.pipeline.ensemble",
    "import_nnunet": "msseg.pipeline.import_nnunet",
    "measure_speeds": "msseg.pipeline.speeds",
    "make_plan": "planning.planner",
    "MssegError": "msseg.errors",
    "DatasetError": "msseg.errors",
    "PlanError": "msseg.errors",
    "CheckpointError": "msseg.errors",
    "ResourceError": "msseg.errors",
}

__all__ = ["__version__", *sorted(_PLACES)]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'msseg' has no attribute '{name}'; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return list(__all__)
