"""A plan as a page to read."""

from __future__ import annotations

import textwrap

from planning.plan import Plan, Reason
from planning.rules import GIGABYTE

PAGE_WIDTH = 100


def explain(plan: Plan) -> str:
    """A page with every decision of the plan and its reason, general ones first, then by configuration.

    The reasons are those of planning; values edited by hand afterwards are not explained anew.
    """
    lines = [f"Plan for {plan.dataset_name}, {plan.memory_bytes / GIGABYTE:.3g} GB of memory"]
    headings = {"": "All configurations"} | {
        f"configurations.{name}.": f"Configuration {name}" for name in plan.configurations
    }
    for prefix, heading in headings.items():
        chosen = [reason for reason in plan.reasons if _prefix(reason) == prefix]
        if chosen:
            lines += ["", heading, "-" * len(heading)]
        for reason in chosen:
            lines += _paragraph(reason.subject.removeprefix(prefix), reason)
    return "\n".join(lines)


def _prefix(reason: Reason) -> str:
    parts = reason.subject.split(".")
    return f"configurations.{parts[1]}." if parts[0] == "configurations" else ""


def _paragraph(subject: str, reason: Reason) -> list[str]:
    text = f"{reason.decision}. {reason.because[:1].upper()}{reason.because[1:]}. [{reason.source}]"
    return textwrap.wrap(
        text, PAGE_WIDTH, initial_indent=f"  {subject}: ", subsequent_indent="    ", break_on_hyphens=False
    )
