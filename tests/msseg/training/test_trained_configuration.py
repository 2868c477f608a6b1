from __future__ import annotations

from dataclasses import replace

import pytest

from msseg.errors import PlanError
from msseg.training.trained_configuration import trained_configuration
from planning.memory import feature_voxels, training_bytes


def trained(job):
    """The configuration and the lines that went with it."""
    lines: list[str] = []
    return trained_configuration(job, lambda: 0.0, lines.append), lines


def bytes_a_patch(configuration, num_classes: int = 3) -> int:
    voxels = feature_voxels(configuration.row, configuration.patch_size, configuration.strides, num_classes)
    return training_bytes(voxels, 1, configuration.dimensions, configuration.row)


@pytest.mark.parametrize(
    ("patches", "expected", "said"),
    [(6.5, 6, "holds no more"), (500, 128, "the recipe takes up to 128, as the plan's"), (0.5, 2, "holds no more")],
)
def test_a_large_batch_is_what_the_plans_memory_holds_but_not_less_than_the_plans(
    make_job, plan, recipe, patches, expected, said
):
    planned = plan.configurations["3d"]
    roomy = replace(plan, memory_bytes=round(patches * bytes_a_patch(planned)))
    used, lines = trained(make_job(plan=roomy, recipe=replace(recipe, largest_batch=128)))
    assert used.batch_size == expected
    assert len(lines) == 1
    assert lines[0].startswith(f"batches of {expected} patches")
    assert said in lines[0]


def test_a_batch_size_of_the_recipes_own_is_taken_as_it_is(make_job, recipe):
    used, lines = trained(make_job(recipe=replace(recipe, largest_batch=128, batch_size=5)))
    assert used.batch_size == 5
    assert lines == []


def test_one_value_a_channel_is_too_little_for_batch_norm(make_job, plan, recipe):
    single = replace(plan.configurations["3d"], network="unet", patch_size=(4, 4, 4), batch_size=1)
    of_one = replace(plan, configurations={"3d": replace(single, supervision_weights=(1.0,))})
    with pytest.raises(PlanError, match="--set batch_size=2"):
        trained(make_job(plan=of_one))
    assert trained(make_job(plan=of_one, recipe=replace(recipe, batch_size=2)))[0].batch_size == 2
