"""msseg_predict -i in/ -o out/: segment a folder of images with a trained model."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from msseg.commands import console, values
from msseg.inference.speeds import EXACT, SPEEDS

if TYPE_CHECKING:
    from msseg.inference.folder import PredictionReport
    from msseg.inference.predictor import PredictionOptions
    from msseg.interrupts import StopRequest
    from msseg.pipeline.prediction import OutputWish
    from planning.costs.estimate import Estimate
    from planning.costs.machine import Machine

EPILOG = """\
examples:
  msseg_predict -i images/ -o segmentations/
  msseg_predict -i images/ -o segmentations/ -t Task04_Hippocampus --folds 0 1 2
  msseg_predict -i images/ -o segmentations/ -t 4 --speed balanced
  msseg_predict -i images/ -o segmentations/ -t DSB2018 --instances --save-probabilities
  msseg_predict -i images/ -o segmentations/ -m models/Task04_Hippocampus/3d_mss_unet --device cuda
  msseg_predict -i images/ -o segmentations/ --inference models/Task04_Hippocampus/inference.json
"""


def main(argv: list[str] | None = None) -> int:
    """Exit code 0 where every case has its segmentation."""
    parser = console.make_parser(
        "msseg_predict",
        "Segment every image of a folder. Without -t or -m the only trained model below --root is taken.",
        EPILOG,
    )
    parser.add_argument("-i", "--input", required=True, metavar="DIR", help="folder of images, with or without _0000")
    parser.add_argument("-o", "--output", required=True, metavar="DIR", help="folder for the segmentations")
    _add_model(parser)
    console.add_root(parser)
    console.add_workers(parser, "threads that read and prepare ahead (default: 1)")
    console.add_executor(parser)
    console.add_device(parser)
    _add_speed(parser)
    _add_rules(parser)
    _add_outputs(parser)
    parser.add_argument("--overwrite", action="store_true", help="predict again what is there already")
    console.add_contract(parser, bounded=True)
    return console.run(parser, _run, argv)


def _add_speed(parser: argparse.ArgumentParser) -> None:
    """How an image is shown to the networks, and how they answer."""
    parser.add_argument(
        "--speed",
        choices=tuple(SPEEDS),
        default=EXACT,
        help="preset of the next three options, which win where they are given (default: exact)",
    )
    parser.add_argument("--step", type=values.share, help="tile distance as a share of the patch (exact: 0.5)")
    parser.add_argument("--no-mirroring", action="store_true", help="one pass a tile instead of all mirrored ones")
    parser.add_argument(
        "--mode",
        choices=("accurate", "fast"),
        help="average all branches of full resolution, or take the main one alone (exact: accurate)",
    )
    parser.add_argument(
        "--no-guidance",
        action="store_true",
        help="keep classes that classification-guided modules see nowhere in the image",
    )
    parser.add_argument(
        "--noise-repeats",
        type=values.not_negative_int,
        default=0,
        metavar="N",
        help="further passes with Gaussian noise (default: 0)",
    )


def _add_rules(parser: argparse.ArgumentParser) -> None:
    """How segmentations are mended."""
    rules = parser.add_mutually_exclusive_group()
    rules.add_argument("--no-postprocessing", action="store_true", help="leave the network's segmentation as it is")
    rules.add_argument(
        "--postprocessing", metavar="FILE", help="mend segmentations by the rules of this file instead of the model's"
    )


def _add_model(parser: argparse.ArgumentParser) -> None:
    """Which model predicts; none of them: the only trained one."""
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("-t", "--task", metavar="TASK", help="take the only trained model of this task")
    choice.add_argument(
        "-m", "--model", metavar="MODEL_DIR", help="take the model of this folder, or an inference.json"
    )
    choice.add_argument(
        "--inference", metavar="FILE", help="take the models, rules and decision of msseg_find_best's inference.json"
    )
    parser.add_argument("-f", "--folds", nargs="+", metavar="FOLD", help="folds to average (default: all trained)")


def _add_outputs(parser: argparse.ArgumentParser) -> None:
    """What is written, and the thresholds of a model of one label or of regions."""
    decision = parser.add_mutually_exclusive_group()
    decision.add_argument(
        "--threshold",
        type=values.probability,
        metavar="P",
        help="probability above which a model of one label finds it, or each region of a model of such is painted "
        "(default: the model's decision, else 0.5)",
    )
    decision.add_argument(
        "--no-decision", action="store_true", help="leave the thresholds out that validation found for the model"
    )
    console.add_outputs(parser)


def _run(arguments: argparse.Namespace) -> int:
    if arguments.model is not None and arguments.model.endswith(".json"):
        arguments.inference, arguments.model = arguments.model, None
    work = _predict if arguments.inference is None else _predict_inference
    return console.under_contract(arguments, lambda machine: _cost(arguments, machine), lambda: work(arguments))


def _cost(arguments: argparse.Namespace, machine: Machine) -> Estimate:
    from msseg.pipeline.explain_prediction import Views, explain_prediction
    from planning.costs.prediction import Kept

    preset = SPEEDS[arguments.speed]
    views = Views(
        mirror=False if arguments.no_mirroring else preset.mirror,
        step=preset.step if arguments.step is None else arguments.step,
        noise_repeats=arguments.noise_repeats,
    )
    kept = Kept(arguments.save_probabilities is not None, arguments.instances)
    asked: tuple[Any, ...] = (views, arguments.device, arguments.workers, arguments.max_ram, kept)
    if arguments.inference is not None:
        from msseg.pipeline.explain_folds import explain_inference

        return explain_inference(arguments.input, arguments.inference, machine, *asked)
    model = arguments.model, arguments.task, arguments.root, arguments.folds
    return explain_prediction(arguments.input, machine, *model, *asked)


def _predict(arguments: argparse.Namespace) -> int:
    from msseg.inference.speeds import speed_note
    from msseg.interrupts import stop_on_signals
    from msseg.pipeline.prediction import model_folder, predict

    model = model_folder(arguments.model, arguments.task, arguments.root)
    if note := speed_note(model, _options(arguments)):
        console.say(arguments, note)
    with console.executor_of(arguments, arguments.output) as executor, stop_on_signals() as stop:
        asked = _asked(arguments)
        report = predict(**asked, model=model, folds=arguments.folds, stop=stop, executor=executor)
    return _ended(arguments, report, stop)


def _predict_inference(arguments: argparse.Namespace) -> int:
    from msseg.errors import MssegError
    from msseg.interrupts import stop_on_signals
    from msseg.pipeline.inference_prediction import predict_inference

    if arguments.folds:
        raise MssegError(f"--folds {' '.join(arguments.folds)}: {arguments.inference} names the folds. Leave that out.")
    with console.executor_of(arguments, arguments.output) as executor, stop_on_signals() as stop:
        report = predict_inference(**_asked(arguments), inference=arguments.inference, stop=stop, executor=executor)
    return _ended(arguments, report, stop)


def _asked(arguments: argparse.Namespace) -> dict[str, Any]:
    """What prediction is asked for, whatever model predicts."""
    return {
        "input_folder": arguments.input,
        "output_folder": arguments.output,
        "options": _options(arguments),
        "postprocess": not arguments.no_postprocessing,
        "overwrite": arguments.overwrite,
        "device": arguments.device,
        "workers": arguments.workers,
        "quiet": arguments.quiet,
        "max_ram": arguments.max_ram,
        "outputs": _outputs(arguments),
    }


def _ended(arguments: argparse.Namespace, report: PredictionReport, stop: StopRequest) -> int:
    from msseg.pipeline.prediction import prediction_summary

    code = console.conclude(arguments, prediction_summary(report, arguments.output), report.is_complete)
    return console.EXIT_INTERRUPTED if stop.requested else code


def _outputs(arguments: argparse.Namespace) -> OutputWish:
    from msseg.pipeline.prediction import OutputWish

    return OutputWish(
        threshold=arguments.threshold,
        decide=not arguments.no_decision,
        instances=arguments.instances,
        probability_bits=arguments.save_probabilities,
        rules_file=arguments.postprocessing,
    )


def _options(arguments: argparse.Namespace) -> PredictionOptions:
    """What the preset says, and upon that what was asked for by itself."""
    from dataclasses import replace

    from msseg.inference.predictor import PredictionOptions
    from msseg.inference.speeds import options_for

    common = PredictionOptions(noise_repeats=arguments.noise_repeats, guidance=not arguments.no_guidance)
    asked: dict[str, Any] = {"step": arguments.step, "branches": arguments.mode}
    asked["mirror"] = False if arguments.no_mirroring else None
    given = {name: value for name, value in asked.items() if value is not None}
    return replace(options_for(arguments.speed, common), **given)
