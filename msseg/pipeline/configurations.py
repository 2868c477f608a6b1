"""The configuration that is trained: the plan's, or one of another network from the same fingerprint and budget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from msseg.errors import DatasetError, PlanError
from msseg.files import read_json
from msseg.folders import Task
from planning.fingerprint import Fingerprint, fingerprint_from_json
from planning.networks import NETWORKS, network_row
from planning.plan import Configuration, Plan
from planning.planner import CASCADE, LOW_RESOLUTION, Budget, make_plan

# What is planned where it is asked for: beside which configuration, and what comes with it.
_ADDED = {
    "2.5d": ("2d", ("2.5d",)),
    LOW_RESOLUTION: ("3d", (LOW_RESOLUTION,)),
    CASCADE: ("3d", (LOW_RESOLUTION, CASCADE)),
}


def plan_for_network(
    task: Task,
    plan: Plan,
    network: str | None,
    configuration: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Plan:
    """The plan, with the configurations of another network from the same fingerprint and budget where one is asked for.

    `options` replace single values of the network's row, beside those that the plan has for it already. The plan stays
    as it is where `configuration` (None: its default) has that network and options; "2.5d" is added where it is asked
    for, and so are the stages of a cascade to a plan that was made before there were any. Spacing, axis order and
    normalisation stay in any case, so the preprocessed cases serve every network. One of 2D alone (an encoder of the
    literature) leaves a plan of 2D alone. Raises PlanError for an unknown network or option.
    """
    if configuration in _ADDED and configuration not in plan.configurations:
        plan = _with_added(task, plan, configuration, network)
    planned = chosen_configuration(plan, configuration)
    name = network or planned.network
    kept = planned.network_options if name == planned.network else {}
    wanted = _telling_options(name, {**kept, **(options or {})})
    if name == planned.network and wanted == _telling_options(name, kept):
        return plan
    more = "2.5d" if "2.5d" in plan.configurations else None
    budget = Budget(plan.memory_bytes, name, _planned_growth(task), wanted, more)
    other = make_plan(_fingerprint(task), budget, _coarse_mm(plan))
    replanned = {
        key: replace(value, spacing_mm=plan.configurations[key].spacing_mm)
        for key, value in other.configurations.items()
        if key in plan.configurations
    }
    if configuration is not None and configuration not in replanned:
        encoder = network_row(name, wanted).encoder
        raise PlanError(f"configuration {configuration}: encoder {encoder} is for 2D alone. Use --configuration 2d.")
    default = plan.default_configuration if plan.default_configuration in replanned else other.default_configuration
    return replace(plan, configurations=replanned, default_configuration=default, reasons=other.reasons)


def _with_added(task: Task, plan: Plan, name: str, network: str | None) -> Plan:
    """The plan with the configuration `name`, of the network, options and spacing of the one that it goes with.

    "3d_lowres" has a spacing of its own, which `network` tells, if it is asked for.
    """
    beside, names = _ADDED[name]
    like = chosen_configuration(plan, beside)
    options = like.network_options if network in (None, like.network) else {}
    budget = Budget(plan.memory_bytes, network or like.network, _planned_growth(task), options, name)
    made = make_plan(_fingerprint(task), budget, _coarse_mm(plan)).configurations
    added = {key: made[key] for key in names if key not in plan.configurations}
    for key in added.keys() - {LOW_RESOLUTION}:
        added[key] = replace(added[key], spacing_mm=like.spacing_mm)
    return replace(plan, configurations={**plan.configurations, **added})


def _coarse_mm(plan: Plan) -> tuple[float, ...] | None:
    """The grid of the plan's low-resolution stage, whose cases serve every network."""
    return plan.configurations[LOW_RESOLUTION].spacing_mm if LOW_RESOLUTION in plan.configurations else None


def _fingerprint(task: Task) -> Fingerprint:
    return fingerprint_from_json(read_json(task.fingerprint_path, DatasetError), str(task.fingerprint_path))


def _telling_options(network: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that change the network's row, by name, so that each network has one description."""
    network_row(network, options)
    return {key: value for key, value in sorted(options.items()) if getattr(NETWORKS[network], key) != value}


def _planned_growth(task: Task) -> str:
    """What more memory was to buy when the task was planned."""
    record = task.preprocessed / "planned.json"
    planned = read_json(record, DatasetError) if record.is_file() else {}
    growth: str = planned.get("budget", {}).get("grow", Budget.grow)
    return growth


def chosen_configuration(plan: Plan, name: str | None) -> Configuration:
    """The configuration called `name`, or the plan's default; PlanError lists the known ones."""
    name = name or plan.default_configuration
    if name not in plan.configurations:
        raise PlanError(f"configuration {name}: not in the plan, which has {', '.join(plan.configurations)}.")
    return plan.configurations[name]
