"""msseg_plan --fingerprint FILE: plan from a fingerprint alone, without any image."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from msseg.commands import console

EPILOG = """\
examples:
  msseg_plan --fingerprint fingerprint.json --memory 16GB --reasons
  msseg_plan --fingerprint fingerprint.json --network plain_unet -o plan.json
  msseg_plan --fingerprint fingerprint.json --network unet_sharp --encoder vgg16 --network-option heads=last
  msseg_plan --fingerprint fingerprint.json --memory 32GB --grow batch -o plan.json
"""


def main(argv: list[str] | None = None) -> int:
    """Exit code 0 where a plan was made; it goes to --output, else to the terminal."""
    parser = console.make_parser(
        "msseg_plan",
        "Plan networks, patches and batches from a fingerprint, without any image.\n"
        "The plan is written to --output; without it, it is printed (--reasons prints the readable page instead).",
        EPILOG,
    )
    parser.add_argument("--fingerprint", type=Path, required=True, metavar="FILE", help="fingerprint as JSON")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="where the plan goes, as JSON")
    parser.add_argument("--reasons", action="store_true", help="print every decision with its reason")
    console.add_planning(parser)
    console.add_contract(parser)
    return console.run(parser, _run, argv)


def _run(arguments: argparse.Namespace) -> int:
    from planning.costs.short import planning_estimate

    return console.under_contract(arguments, planning_estimate, lambda: _plan(arguments))


def _plan(arguments: argparse.Namespace) -> int:
    from msseg.errors import PlanError
    from msseg.files import read_json, write_json
    from planning.explain import explain
    from planning.fingerprint import fingerprint_from_json
    from planning.plan import plan_to_json
    from planning.planner import Budget, make_plan

    fingerprint = fingerprint_from_json(read_json(arguments.fingerprint, PlanError), str(arguments.fingerprint))
    default = Budget()
    budget = Budget(
        memory_bytes=arguments.memory,
        network=arguments.network or default.network,
        grow=arguments.grow or default.grow,
        options=console.network_options(arguments),
        configuration=arguments.configuration,
    )
    plan = make_plan(fingerprint, budget)
    if arguments.output is not None:
        write_json(arguments.output, plan_to_json(plan))
        console.say(arguments, f"{arguments.output}: plan for {plan.dataset_name} written.")
    if arguments.reasons:
        print(explain(plan))
    elif arguments.output is None:
        print(json.dumps(plan_to_json(plan), indent=2, allow_nan=False))
    return console.EXIT_DONE
