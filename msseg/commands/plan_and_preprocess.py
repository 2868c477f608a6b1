"""msseg_plan_and_preprocess TASK: check, fingerprint, plan, preprocess."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from msseg.commands import console

if TYPE_CHECKING:
    from planning.costs.estimate import Estimate
    from planning.costs.machine import Machine

EPILOG = """\
examples:
  msseg_plan_and_preprocess /data/Task04_Hippocampus
  msseg_plan_and_preprocess Task04_Hippocampus --check-only
  msseg_plan_and_preprocess 4 --memory 16GB --reasons
  msseg_plan_and_preprocess 4 --max-ram 8GB --explain
  msseg_plan_and_preprocess 4 --network unet_sharp --network-option guidance=branches
  msseg_plan_and_preprocess 4 --configuration 2.5d
  msseg_plan_and_preprocess 4 --executor dask://node1:8786
"""


def main(argv: list[str] | None = None) -> int:
    """Exit code 0 where the data set is checked, planned and preprocessed as asked."""
    parser = console.make_parser(
        "msseg_plan_and_preprocess",
        "Check a data set, measure it, plan the networks and preprocess the cases. Run again, it does what is missing.",
        EPILOG,
    )
    console.add_task(parser)
    console.add_root(parser)
    console.add_workers(parser)
    console.add_executor(parser)
    console.add_unused_device(parser)
    console.add_planning(parser)
    parser.add_argument("--check-only", action="store_true", help="stop after the check")
    parser.add_argument("--skip-broken", action="store_true", help="go on without the cases that fail the check")
    parser.add_argument("--replan", action="store_true", help="plan anew even where plan.json was edited by hand")
    parser.add_argument("--reasons", action="store_true", help="print every decision of the plan with its reason")
    console.add_group_by(parser)
    console.add_contract(parser, bounded=True)
    return console.run(parser, _run, argv)


def _run(arguments: argparse.Namespace) -> int:
    return console.under_contract(arguments, lambda machine: _predict(arguments, machine), lambda: _prepare(arguments))


def _predict(arguments: argparse.Namespace, machine: Machine) -> Estimate:
    from msseg.pipeline.explain_planning import explain_preparation

    return explain_preparation(arguments.task, machine, arguments.root, arguments.workers, arguments.max_ram)


def _prepare(arguments: argparse.Namespace) -> int:
    from msseg.folders import project_root
    from msseg.pipeline.planning import PlanningOptions, plan_and_preprocess
    from planning.explain import explain

    options = PlanningOptions(
        memory_bytes=arguments.memory,
        network=arguments.network,
        network_options=console.network_options(arguments),
        grow=arguments.grow,
        group_by=arguments.group_by,
        check_only=arguments.check_only,
        skip_broken=arguments.skip_broken,
        replan=arguments.replan,
        configuration=arguments.configuration,
    )
    with console.executor_of(arguments, project_root(arguments.root)) as executor:
        report = plan_and_preprocess(
            arguments.task,
            root=arguments.root,
            options=options,
            workers=arguments.workers,
            executor=executor,
            quiet=arguments.quiet,
            max_ram=arguments.max_ram,
        )
    if arguments.reasons and report.plan is not None:
        print(explain(report.plan))
    return console.conclude(arguments, report.summary(), report.complete)
