"""A plan as a page to read."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from planning.plan import Configuration, Plan, Reason
from planning.rules import GIGABYTE

PAGE_WIDTH = 100


def explain(plan: Plan) -> str:
    """A page with every decision of the plan and its reason, general ones first, then by configuration.

    The reasons are those of planning; what was edited by hand since then shows in the first line of a configuration.
    """
    lines = [f"Plan for {plan.dataset_name}, {plan.memory_bytes / GIGABYTE:.3g} GB of memory"]
    headings = {"": "All configurations"} | {
        f"configurations.{name}.": f"Configuration {name}" for name in plan.configurations
    }
    for prefix, heading in headings.items():
        lines += ["", heading, "-" * len(heading)]
        if prefix:
            lines += _summary(plan.configurations[prefix.removeprefix("configurations.").removesuffix(".")])
        for reason in plan.reasons:
            if _prefix(reason, headings) == prefix:
                lines += _paragraph(reason.subject.removeprefix(prefix), reason)
    return "\n".join(lines)


def _summary(configuration: Configuration) -> list[str]:
    """The values in force, which a hand may have edited since the reasons were written."""
    patch, spacing = (product(values) for values in (configuration.patch_size, configuration.spacing_mm))
    return [
        f"  In force: {configuration.network}{_options(configuration)}, {len(configuration.features)} levels, "
        f"patch {patch} at {spacing} mm, batch {configuration.batch_size}.",
    ]


def _options(configuration: Configuration) -> str:
    options = configuration.network_options
    return f" ({', '.join(f'{name}={value}' for name, value in options.items())})" if options else ""


def product(values: Sequence[float]) -> str:
    """`40 × 56 × 40`; fractions keep four digits."""
    return " × ".join(f"{value:g}" if isinstance(value, int) else f"{value:.4g}" for value in values)


def _prefix(reason: Reason, known: Iterable[str]) -> str:
    """The longest prefix that the subject has; "" of them all."""
    return max((prefix for prefix in known if reason.subject.startswith(prefix)), key=len)


def _paragraph(subject: str, reason: Reason) -> list[str]:
    text = f"{reason.decision}. {reason.because[:1].upper()}{reason.because[1:]}. [{reason.source}]"
    return textwrap.wrap(
        text, PAGE_WIDTH, initial_indent=f"  {subject}: ", subsequent_indent="    ", break_on_hyphens=False
    )
