"""plans.json and dataset.json as our plan: every value, both formats, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from msseg.nnunet.plans import ImportedPlan, ModelFiles, import_plan
from planning.errors import MssegError, PlanError
from planning.regions import Region


def imported(model: Any, trainer: str = "nnUNetTrainer", mirror_axes: tuple[int, ...] | None = (0, 1)) -> ImportedPlan:
    return import_plan(ModelFiles("theirs", model.plans, model.dataset), model.name, trainer, mirror_axes)


def test_every_value_of_a_configuration_arrives(make_model: Callable[..., Any]):
    result = imported(make_model())
    found = result.configuration
    assert (found.name, found.dimensions, found.network, dict(found.network_options)) == (
        "3d_fullres",
        3,
        "plain_unet",
        {},
    )
    assert found.spacing_mm == (3.0, 1.0, 0.5)
    assert found.median_shape == (9, 20, 18)
    assert found.patch_size == (8, 16, 16)
    assert found.batch_size == 3
    assert found.features == (4, 6, 8)
    assert found.strides == ((1, 2, 2), (2, 2, 2))
    assert found.kernel_sizes == ((1, 3, 3), (3, 3, 3), (3, 3, 3))
    assert found.encoder_convolutions == (1, 2, 2)
    assert found.decoder_convolutions == (1, 2), "nnU-Net counts from the bottleneck up"
    assert found.supervision_weights == (1.0, 0.0)
    assert (found.image_order, found.label_order, found.score_order) == (3, 1, 1)
    assert found.mirror_axes == (0, 1)
    assert found.batch_dice
    assert not found.dummy_2d
    assert result.notes == ()


def test_labels_channels_and_axes_arrive(make_model: Callable[..., Any]):
    plan = imported(make_model()).plan
    assert plan.dataset_name == "Dataset001_Tiny"
    assert plan.axis_order == (1, 0, 2)
    assert list(plan.labels.items()) == [("background", 0), ("kidney", 1), ("tumour", 2)]
    ct, mr = plan.channels
    assert (ct.name, ct.normalisation, ct.inside_nonzero_mask) == ("CT", "ct", False)
    assert (ct.lower, ct.upper, ct.mean, ct.std) == (-20.0, 210.0, 90.0, 40.0)
    assert (mr.name, mr.normalisation, mr.inside_nonzero_mask) == ("MR", "zscore", True)
    assert plan.default_configuration == "3d_fullres"
    assert "nnU-Net" in plan.reasons[0].source


def test_regions_arrive_in_the_order_in_which_they_are_painted(make_model: Callable[..., Any]):
    model = make_model()
    labels = {"background": 0, "whole": [1, 3, 2], "core": [2, 3], "enhancing": 3, "ignore": 4}
    model.dataset.update(labels=labels, regions_class_order=[1, 2, 3])
    plan = imported(model).plan
    assert plan.labels == {"background": 0, "label_1": 1, "label_2": 2, "enhancing": 3}
    regions = (Region("whole", (1, 2, 3), 1), Region("core", (2, 3), 2), Region("enhancing", (3,), 3))
    assert plan.regions == regions and plan.outputs == 3
    assert plan.ignore == 4


def test_labels_of_one_value_each_are_no_regions_even_as_lists(make_model: Callable[..., Any]):
    model = make_model()
    model.dataset.update(labels={"background": 0, "a": [1], "b": 2}, regions_class_order=[1, 2])
    assert imported(model).plan.regions == ()


def test_two_dimensions_and_residual_encoders_arrive(make_model: Callable[..., Any]):
    found = imported(make_model(residual=True, dimensions=2), mirror_axes=None).configuration
    assert (found.dimensions, found.network, found.patch_size, found.spacing_mm) == (
        2,
        "resenc_l",
        (16, 16),
        (1.0, 0.5),
    )
    assert found.mirror_axes == ()


def test_numbers_given_once_stand_for_all_levels(make_model: Callable[..., Any]):
    model = make_model()
    model.configuration["architecture"]["arch_kwargs"].update(
        features_per_stage=8, kernel_sizes=3, strides=[1, 2, [1, 2, 2]], n_conv_per_stage=2, n_conv_per_stage_decoder=1
    )
    found = imported(model).configuration
    assert found.features == (8, 8, 8)
    assert found.kernel_sizes == ((3, 3, 3),) * 3
    assert found.strides == ((2, 2, 2), (1, 2, 2))
    assert (found.encoder_convolutions, found.decoder_convolutions) == ((2, 2, 2), (1, 1))


OLD_FIELDS = {
    "UNet_class_name": "PlainConvUNet",
    "UNet_base_num_features": 4,
    "unet_max_num_features": 6,
    "n_conv_per_stage_encoder": [2, 1, 2],
    "n_conv_per_stage_decoder": [2, 1],
    "num_pool_per_axis": [1, 2, 2],
    "pool_op_kernel_sizes": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
    "conv_kernel_sizes": [[1, 3, 3], [3, 3, 3], [3, 3, 3]],
}


def test_plans_before_the_architecture_block_are_read(make_model: Callable[..., Any]):
    model = make_model()
    del model.configuration["architecture"]
    model.configuration.update(OLD_FIELDS)
    model.plans["foreground_intensity_properties_by_modality"] = model.plans.pop(
        "foreground_intensity_properties_per_channel"
    )
    model.dataset["modality"] = model.dataset.pop("channel_names")
    result = imported(model)
    assert result.configuration.features == (4, 6, 6)
    assert result.configuration.strides == ((1, 2, 2), (2, 2, 2))
    assert result.configuration.encoder_convolutions == (2, 1, 2)
    assert result.configuration.decoder_convolutions == (1, 2)
    assert result.plan.channels[0].mean == 90.0


def test_a_configuration_inherits_what_it_does_not_say(make_model: Callable[..., Any]):
    model = make_model()
    model.plans["configurations"]["3d_lowres"] = {"inherits_from": "3d_fullres", "spacing": [6.0, 2.0, 1.0]}
    model.name = "3d_lowres"
    found = imported(model).configuration
    assert (found.name, found.spacing_mm, found.patch_size) == ("3d_lowres", (6.0, 2.0, 1.0), (8, 16, 16))


def test_other_norms_activations_and_no_biases_are_options_of_the_row(make_model: Callable[..., Any]):
    model = make_model()
    arguments = model.configuration["architecture"]["arch_kwargs"]
    arguments.update(norm_op="torch.nn.modules.batchnorm.BatchNorm3d", nonlin="torch.nn.ReLU", conv_bias=False)
    assert imported(model).configuration.network_options == {
        "norm": "batch",
        "activation": "relu",
        "encoder_activation": "relu",
        "convolution_bias": False,
        "up_bias": False,
    }


def test_the_batch_norm_trainer_has_its_norm(make_model: Callable[..., Any]):
    assert imported(make_model(), "nnUNetTrainerBN").configuration.network_options == {"norm": "batch"}


def test_dropout_and_another_orientation_are_noted(make_model: Callable[..., Any]):
    model = make_model()
    model.configuration["architecture"]["arch_kwargs"]["dropout_op"] = "torch.nn.modules.dropout.Dropout3d"
    model.plans["image_reader_writer"] = "NibabelIOWithReorient"
    orientation, dropout = imported(model).notes
    assert "RAS" in orientation
    assert "dropout" in dropout


def in_configuration(**changes: Any) -> Callable[[Any], None]:
    return lambda model: model.configuration.update(changes)


def in_architecture(**changes: Any) -> Callable[[Any], None]:
    return lambda model: model.configuration["architecture"]["arch_kwargs"].update(changes)


def in_dataset(**changes: Any) -> Callable[[Any], None]:
    return lambda model: model.dataset.update(changes)


def in_plans(**changes: Any) -> Callable[[Any], None]:
    return lambda model: model.plans.update(changes)


def another_network(model: Any) -> None:
    model.configuration["architecture"]["network_class_name"] = "my.networks.SwinUNETR"


def cascade_of_regions(model: Any) -> None:
    model.configuration["previous_stage"] = "3d_lowres"
    model.dataset.update(labels={"background": 0, "whole": [1, 2], "core": 2}, regions_class_order=[1, 2])


REFUSED: dict[str, tuple[Callable[[Any], None], str]] = {
    "a cascade with regions": (cascade_of_regions, "one for each region"),
    "regions without an order": (
        in_dataset(labels={"background": 0, "whole": [1, 2], "core": 2}),
        "regions_class_order",
    ),
    "a region that paints another": (
        in_dataset(labels={"background": 0, "whole": [1, 2], "core": 2}, regions_class_order=[1, 1]),
        "paints 1",
    ),
    "labels with gaps": (in_dataset(labels={"background": 0, "a": 7}), "without gaps"),
    "no labels": (in_dataset(labels=None), "labels"),
    "another network": (another_network, "SwinUNETR"),
    "another preprocessor": (in_configuration(preprocessor_name="MyPreprocessor"), "DefaultPreprocessor"),
    "another resampling": (in_configuration(resampling_fn_data="resample_torch_simple"), "resample_torch_simple"),
    "a forced separate axis": (
        in_configuration(resampling_fn_data_kwargs={"order": 3, "order_z": 0, "force_separate_z": True}),
        "force_separate_z",
    ),
    "a linear separate axis": (
        in_configuration(resampling_fn_data_kwargs={"order": 3, "order_z": 1, "force_separate_z": None}),
        "order_z",
    ),
    "a quintic spline": (
        in_configuration(resampling_fn_data_kwargs={"order": 5, "order_z": 0, "force_separate_z": None}),
        "order: found 5",
    ),
    "another intensity scheme": (in_configuration(normalization_schemes=["Mine", "Mine"]), "Mine"),
    "a scheme too few": (in_configuration(normalization_schemes=["CTNormalization"]), "one a channel"),
    "CT without figures": (in_plans(foreground_intensity_properties_per_channel={}), "foreground_intensity"),
    "another label manager": (in_plans(label_manager="Mine"), "LabelManager"),
    "no transposition": (in_plans(transpose_forward=None), "transpose_forward"),
    "an odd configuration": (in_plans(configurations={}), "configurations"),
    "bottleneck blocks": (in_architecture(block="dynamic_network_architectures.X.BottleneckD"), "block"),
    "norm last": (in_architecture(nonlin_first=True), "nonlin_first"),
    "a norm without scale": (in_architecture(norm_op_kwargs={"affine": False}), "norm_op_kwargs"),
    "another slope": (in_architecture(nonlin_kwargs={"negative_slope": 0.2}), "negative_slope"),
    "another activation": (in_architecture(nonlin="torch.nn.GELU"), "GELU"),
    "a stride on the image": (in_architecture(strides=[2, 2, 2]), "strides"),
    "widths of too few levels": (in_architecture(features_per_stage=[4, 8]), "3 entries"),
    "a kernel of too few axes": (in_architecture(kernel_sizes=[[3, 3]] * 3), "one an axis"),
    "a patch that the strides do not divide": (in_configuration(patch_size=[8, 18, 16]), "patch_size"),
    "an unknown part": (in_architecture(squeeze_excitation=True), "squeeze_excitation"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_ours_cannot_do_is_refused_in_words(name: str, make_model: Callable[..., Any]):
    change, found = REFUSED[name]
    model = make_model()
    change(model)
    with pytest.raises(MssegError) as error:
        imported(model)
    assert found in str(error.value)
    assert "theirs/" in str(error.value)


def test_a_configuration_that_inherits_from_itself_is_refused(make_model: Callable[..., Any]):
    model = make_model()
    model.configuration["inherits_from"] = "3d_fullres"
    with pytest.raises(PlanError, match="ancestor"):
        imported(model)


def test_a_configuration_that_is_not_there_is_refused(make_model: Callable[..., Any]):
    model = make_model()
    model.name = "3d_lowres"
    with pytest.raises(PlanError, match="expected one of 3d_fullres"):
        imported(model)


def test_old_plans_of_another_network_are_refused(make_model: Callable[..., Any]):
    model = make_model()
    del model.configuration["architecture"]
    model.configuration.update(OLD_FIELDS, UNet_class_name="MyUNet")
    with pytest.raises(PlanError, match="UNet_class_name"):
        imported(model)
