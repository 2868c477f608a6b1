"""Races the commands of this project against nnU-Net's on the same data and machine, in turn, and prints ratios.

    python benchmarks/race.py --data DATA --nnunet /venv/with/nnunet/bin/python [--stages preprocess ...] [--quick]

nnU-Net lives in an environment of its own and is no dependency. DATA holds Task04_Hippocampus in the Decathlon layout
and, if it is there, the coarse torso CT that the large volumes are made of (else one is made up). Each stage runs
A B A B …, so that a drift of the machine's speed meets both; quoted are medians over the pairs. Pairs are written to
results.json in --work as they end: stages can be run one by one, and what is there is not run again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import race_predicting
import race_preparing
import race_training
from contest import Figure, Race, Stage, forget, read_pairs, run_stage, table

COMMANDS = {
    "plan_and_preprocess": "nnUNetv2_plan_and_preprocess",
    "train": "nnUNetv2_train",
    "predict": "nnUNetv2_predict",
}


def start_up(race: Race) -> list[Figure]:
    """How long `--help` takes, of the commands that both have."""
    figures = []
    for ours, theirs in COMMANDS.items():
        mine, peers = race.ours(ours, "--help"), race.theirs(theirs, "--help")
        figures.append(Figure(f"{ours} --help: wall time", "s", mine.wall_s, peers.wall_s))
        figures.append(Figure(f"{ours} --help: processor time", "s", mine.cpu_s, peers.cpu_s))
    return figures


STAGES: dict[str, Stage] = {
    "help": Stage(lambda race: None, start_up),
    **race_preparing.STAGES,
    **race_training.STAGES,
    **race_predicting.STAGES,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds Task04_Hippocampus")
    parser.add_argument("--nnunet", type=Path, required=True, help="python of an environment with nnunetv2")
    parser.add_argument("--work", type=Path, default=Path("race"), help="folder for all that the race writes")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--repeats", type=int, default=3, help="pairs wanted of each stage (default: 3)")
    parser.add_argument("--again", action="store_true", help="forget the pairs of these stages first")
    parser.add_argument("--quick", action="store_true", help="small inputs and one pair: whether it all runs")
    arguments = parser.parse_args()
    work = (arguments.work / "quick" if arguments.quick else arguments.work).resolve()
    work.mkdir(parents=True, exist_ok=True)
    results = work / "results.json"
    if arguments.again:
        forget(results, arguments.stages)
    race = Race(arguments.data.resolve(), arguments.nnunet.absolute(), work, arguments.quick)
    for stage in arguments.stages:
        run_stage(stage, STAGES[stage], race, 1 if arguments.quick else arguments.repeats, results)
    print("\n".join(table(read_pairs(results))))


if __name__ == "__main__":
    main()
