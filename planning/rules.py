"""Every constant of the planner, each with its reason and its source; `docs/planning.md` prints them as a table.

"nnU-Net" stands for version 2.8.1, `default_experiment_planner.py` and `network_topology.py` unless another file
is named.
"""

from __future__ import annotations

from typing import Final

# Spacing and axis order.

# An axis is anisotropic when it is more than this many times coarser (and shorter) than the others: interpolating
# across such gaps invents tissue. nnU-Net, configuration.py, ANISO_THRESHOLD.
ANISOTROPY_FACTOR: Final = 3.0
# Half of the cases are coarser than the target and half are finer, so neither is changed much. nnU-Net.
TARGET_SPACING_PERCENTILE: Final = 50.0
# On an anisotropic axis the better-resolved cases set the target, so that their slices are not thrown away. nnU-Net.
ANISOTROPIC_SPACING_PERCENTILE: Final = 10.0
# Keeps the anisotropic axis strictly the coarsest, so that it stays first after the transposition. nnU-Net.
COARSEST_AXIS_MARGIN_MM: Final = 1e-5

# Patch and topology.

# The largest patch worth starting from, in voxels; it is clipped to the images and then shrunk to memory. nnU-Net.
LARGEST_PATCH_VOXELS: Final = {2: 2048**2, 3: 256**3}
# The bottleneck keeps at least this many voxels an axis: below that, padding outweighs context. nnU-Net.
SMALLEST_FEATURE_EDGE: Final = 4
# An axis that would be pooled alone must be longer, as the step wins little context. nnU-Net.
SMALLEST_EDGE_TO_POOL_ALONE: Final = 3 * SMALLEST_FEATURE_EDGE
# Axes whose spacings differ by less than this factor count as equally fine: pooled and convolved together. nnU-Net.
SAME_RESOLUTION_FACTOR: Final = 2.0
# Every pooling halves an axis. nnU-Net.
POOLING_STRIDE: Final = 2
# Kernel edge on an axis that takes part in a convolution; the others have 1 until the spacing catches up. nnU-Net.
KERNEL_EDGE: Final = 3

# Memory and batch.

# Unit of memory: a card sold as 8 GB is planned for 8e9 bytes.
GIGABYTE: Final = 10**9
# Below two samples the statistics of a batch are those of one case. nnU-Net, UNet_min_batch_size.
SMALLEST_BATCH: Final = 2
# A batch holds at most this share of all voxels of the data set; larger batches memorise small data sets. nnU-Net.
LARGEST_BATCH_SHARE: Final = 0.05
# Memory for which the reference feature-map counts of `networks.py` were set. nnU-Net, UNet_reference_val_corresp_GB.
REFERENCE_MEMORY_BYTES: Final = 8 * GIGABYTE
# Samples that the reference feature-map counts stand for. nnU-Net, UNet_reference_val_corresp_bs_2d and _3d.
REFERENCE_BATCH: Final = {2: 12, 3: 2}
# Channel values that fit the reference memory at the reference batch. nnU-Net, UNet_reference_val_2d and _3d.
REFERENCE_FEATURE_VOXELS: Final = {2: 85_000_000, 3: 560_000_000}

# A low-resolution stage.

# A low-resolution stage is wanted where the patch sees less than this share of the median image. nnU-Net,
# lowres_creation_threshold.
LOW_RESOLUTION_PATCH_SHARE: Final = 0.25
# The spacing of that stage grows by this factor until the patch sees enough. nnU-Net.
LOW_RESOLUTION_SPACING_STEP: Final = 1.03
# That stage is dropped where it saves less than this factor of voxels. nnU-Net.
LOW_RESOLUTION_SMALLEST_GAIN: Final = 2.0

# The choice of configuration and network.

# A 2.5D network sees so many slices on either side of the one that it segments. Li et al., H-DenseUNet (2018), whose 2D
# network sees three.
NEIGHBOUR_SLICES: Final = 1

# With fewer slices a 3D network could halve their axis once at most, as the bottleneck keeps four of them. Rule of this
# project.
FEWEST_SLICES_TO_RELATE: Final = 4 * SMALLEST_FEATURE_EDGE
# Targets are sparse up to this share of the image: a nodule of 30 mm takes 0.04 % of a chest scan of 350 x 350 x
# 300 mm; KiTS19's kidneys and tumours take 1 %, BraTS' tumours 1.6 %, hippocampi 5 % (measured). Rule of this project.
SPARSE_FOREGROUND_SHARE: Final = 1e-3
# A target is small up to this diameter: what is larger is called a mass, no longer a nodule. Hansell et al. (2008),
# Fleischner Society: glossary of terms for thoracic imaging.
SMALL_OBJECT_MM: Final = 30.0

# Normalisation.

# Below this median share of the image after the nonzero crop, z-scores are computed inside the nonzero mask: the empty
# margin would otherwise dominate mean and deviation. nnU-Net.
MASKED_NORMALISATION_BELOW: Final = 0.75
# Schemes that a plan may name; a channel whose case-folded name is one of them gets it. nnU-Net,
# map_channel_name_to_normalization.py, but for colour.
NORMALISATION_SCHEMES: Final = ("ct", "nonorm", "zscore", "rescale_to_0_1", "rgb_to_0_1", "colour")
# Intensities without a physical unit are comparable only within their own image. nnU-Net.
DEFAULT_NORMALISATION: Final = "zscore"
# Channels of these names, all three, are a colour image: each loses its own mean, but all are divided by one deviation,
# so that what is more red than green stays so. Rule of this project.
COLOUR_CHANNELS: Final = ("red", "green", "blue")
# The scheme that these channels get. Rule of this project.
COLOUR_NORMALISATION: Final = "colour"
# Schemes that can leave the voxels outside the nonzero mask untouched. nnU-Net, default_normalization_schemes.py.
MASKABLE_NORMALISATIONS: Final = ("zscore",)

# Resampling: orders of the interpolating spline.

# Orders that a plan may name for images and scores, the ones there is a spline for: nearest, linear, cubic.
SPLINE_ORDERS: Final = (0, 1, 3)
# Orders that a plan may name for labels: a cubic spline overshoots and would put rims around them.
LABEL_ORDERS: Final = (0, 1)
# Cubic for images: keeps edges sharp. nnU-Net, default_resampling.py.
IMAGE_ORDER: Final = 3
# Linear on each label apart: no label is invented between two others. nnU-Net, default_resampling.py.
LABEL_ORDER: Final = 1
# Linear for class scores, which must not overshoot. nnU-Net, default_resampling.py.
SCORE_ORDER: Final = 1

# Augmentation.

# A patch this much shorter along its first axis is augmented slice by slice; turning it would mix very unequal
# spacings. nnU-Net, nnUNetTrainer.py.
DUMMY_2D_FACTOR: Final = 3.0

# Foreground at least so many standard deviations of the image above or below the background is clearly brighter or
# darker. Nuclei of DSB2018 are by 0.6 to 18. Rule of this project.
CLEAR_CONTRAST: Final = 0.5
# Where at least this share of the images has clearly brighter foreground and at least this share clearly darker,
# training inverts images: DSB2018 has 60 % and 40 %, one kind of microscope has 0. Rule of this project.
MIXED_POLARITY_SHARE: Final = 0.05

# Class weights.

# Weights fall with this power of a class's frequency, rule of this project. With kidney : tumour = 4 : 1 the cube root
# gives cross entropy weights .28/.28/.44 and Dice weights .39/.61; the MSS U-Net paper has .28/.28/.44 and .4/.6.
CLASS_WEIGHT_POWER: Final = 1 / 3
# The rarest class weighs at most this many times the most frequent one; beyond it, gradients of a few voxels rule.
# Rule of this project.
LARGEST_CLASS_WEIGHT_RATIO: Final = 4.0
