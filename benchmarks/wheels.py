"""Which Python packages this machine lacks, what for, and how to carry them to one without a package index."""

from __future__ import annotations

import importlib.util
import platform
import sys

# Package on the index: the module it holds, what is left out without it, and what else its wheel needs.
PACKAGES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "numpy": ("numpy", "everything", ()),
    "torch": ("torch", "everything", ()),
    "safetensors": ("safetensors", "everything: checkpoints", ()),
    "scipy": ("scipy", "the synthetic data set, surface metrics", ()),
    "nibabel": ("nibabel", "NIfTI files: the checks that plan, train and predict a data set", ("packaging",)),
    "connected-components-3d": ("cc3d", "preprocessing and postprocessing: the same checks", ()),
    "batchgenerators": ("batchgenerators", "--augment workers", ("scikit-image", "pandas", "future", "threadpoolctl")),
    "scikit-image": ("skimage", "--augment workers, through batchgenerators", ("imageio", "tifffile", "lazy-loader")),
    "pandas": ("pandas", "--augment workers, through batchgenerators", ("python-dateutil",)),
    "matplotlib": ("matplotlib", "curves of a training", ()),
    "tqdm": ("tqdm", "progress bars", ()),
    "SimpleITK": ("SimpleITK", "NRRD and MetaImage files, which no check here reads", ()),
}


def is_missing(package: str) -> bool:
    """Whether the package cannot be imported here."""
    module = PACKAGES[package][0] if package in PACKAGES else package.replace("-", "_")
    try:
        return importlib.util.find_spec(module) is None
    except (ImportError, ValueError):
        return True


def missing_packages() -> list[str]:
    """The names, on the package index, of what is missing here."""
    return [package for package in PACKAGES if is_missing(package)]


def described(missing: list[str]) -> list[str]:
    """Lines that say what is missing, what for, and the command that fetches the wheels on another machine."""
    if not missing:
        return ["every package is there"]
    lines = [f"missing {package}: {PACKAGES[package][1]}" for package in missing]
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    needed = sorted({*missing, *(other for package in missing for other in PACKAGES[package][2] if is_missing(other))})
    lines.append(
        "to carry them: pip download --no-deps --only-binary=:all: "
        f"--python-version {version} --platform manylinux_2_28_{platform.machine()} "
        f"--platform manylinux_2_17_{platform.machine()} --platform manylinux2014_{platform.machine()} "
        f"-d wheels {' '.join(needed)}; there: pip install --no-index --no-deps wheels/*.whl"
    )
    return lines
