"""msseg_predict -i in/ -o out/: segment a folder of images with a trained model."""

from __future__ import annotations

import argparse

from msseg.commands import console, values

EPILOG = """\
examples:
  msseg_predict -i images/ -o segmentations/
  msseg_predict -i images/ -o segmentations/ -t Task04_Hippocampus --folds 0 1 2
  msseg_predict -i images/ -o segmentations/ -m models/Task04_Hippocampus/3d_mss_unet --device cuda
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
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("-t", "--task", metavar="TASK", help="take the only trained model of this task")
    choice.add_argument("-m", "--model", metavar="MODEL_DIR", help="take the model of this folder")
    parser.add_argument("-f", "--folds", nargs="+", metavar="FOLD", help="folds to average (default: all trained)")
    console.add_root(parser)
    console.add_workers(parser, "threads that read and prepare ahead (default: 1)")
    console.add_device(parser)
    parser.add_argument(
        "--step", type=values.share, default=0.5, help="tile distance as a share of the patch (default: 0.5)"
    )
    parser.add_argument("--no-mirroring", action="store_true", help="one pass a tile instead of all mirrored ones")
    parser.add_argument(
        "--mode",
        choices=("accurate", "fast"),
        default="accurate",
        help="average all branches of full resolution, or take the main one alone (default: accurate)",
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
    parser.add_argument("--no-postprocessing", action="store_true", help="leave the network's segmentation as it is")
    parser.add_argument("--overwrite", action="store_true", help="predict again what is there already")
    return console.run(parser, _run, argv)


def _run(arguments: argparse.Namespace) -> int:
    from msseg.inference.predictor import PredictionOptions
    from msseg.interrupts import stop_on_signals
    from msseg.pipeline.prediction import predict, prediction_summary

    with stop_on_signals() as stop:
        report = predict(
            arguments.input,
            arguments.output,
            model=arguments.model,
            task=arguments.task,
            root=arguments.root,
            folds=arguments.folds,
            options=PredictionOptions(
                mirror=not arguments.no_mirroring,
                step=arguments.step,
                noise_repeats=arguments.noise_repeats,
                branches=arguments.mode,
                guidance=not arguments.no_guidance,
            ),
            postprocess=not arguments.no_postprocessing,
            overwrite=arguments.overwrite,
            device=arguments.device,
            workers=arguments.workers,
            quiet=arguments.quiet,
            stop=stop,
        )
    code = console.conclude(arguments, prediction_summary(report, arguments.output), report.is_complete)
    return console.EXIT_INTERRUPTED if stop.requested else code
