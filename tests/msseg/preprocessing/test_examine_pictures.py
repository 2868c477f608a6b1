from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from msseg.data.dataset import read_dataset
from msseg.data.geometry import Geometry
from msseg.data.image import write_image, write_label
from msseg.preprocessing.decoded import decoded_cases
from msseg.preprocessing.examine import coding_key, examine_dataset, fingerprint_of
from msseg.preprocessing.pipeline import preprocess_dataset
from planning.instances import InstancePlan
from planning.plan import plan_from_json, plan_to_json
from planning.planner import make_plan

PIXEL_MM = 0.0005


@pytest.fixture
def objects(tmp_path: Path) -> Path:
    """Three grey pictures of two squares each, every square a mask of its own; those of case c have a spacing."""
    folder = tmp_path / "objects"
    for seed, name in enumerate("abc"):
        picture = np.random.default_rng(seed).integers(1, 200, (1, 1, 32, 40), dtype=np.uint8)
        grid = Geometry((1, 32, 40), (PIXEL_MM,) * 3, has_spacing=name == "c")
        write_image(folder / "images" / f"{name}.tif", picture, grid)
        for number, start in enumerate((4, 20)):
            mask = np.zeros((1, 32, 40), np.uint8)
            mask[0, start : start + 10, 5:15] = 255
            write_label(folder / "masks" / name / f"{number}.png", mask, grid)
    return folder


def test_a_fingerprint_of_objects_has_their_levels_and_counts_in_pixels(objects: Path, tmp_path: Path) -> None:
    dataset = read_dataset(objects)
    fingerprint = fingerprint_of(dataset, examine_dataset(dataset, tmp_path / "examined", workers=1))
    assert fingerprint.labels == dataset.class_names
    assert fingerprint.instances == InstancePlan("object", 1)
    assert not fingerprint.has_spacing
    assert [case.spacing_mm for case in fingerprint.cases] == [(1.0, 1.0, 1.0)] * 3
    assert [sum(case.voxels_per_class) for case in fingerprint.cases] == [200] * 3
    first, last = (
        np.concatenate([np.array(sizes) for sizes in case.object_sizes_mm3]) for case in fingerprint.cases[::2]
    )
    np.testing.assert_allclose(last, first)


def test_objects_come_into_the_store_as_levels_and_stay_there(objects: Path, tmp_path: Path) -> None:
    dataset = read_dataset(objects)
    plan = make_plan(fingerprint_of(dataset, examine_dataset(dataset, tmp_path / "examined", workers=1)))
    plan = plan_from_json(plan_to_json(plan), "plan.json")
    assert not plan.has_spacing
    for prepared, kept in ((3, 0), (0, 3)):
        with decoded_cases(tmp_path, 3, 1 << 30) as decoded:
            examine_dataset(dataset, tmp_path / "again", workers=1, decoded=decoded)
            done = preprocess_dataset(dataset, plan, "2d", tmp_path / "store", workers=1, decoded=decoded)
        assert (len(done.prepared), len(done.kept), done.failed) == (prepared, kept, {})


def test_a_changed_mask_of_a_folder_makes_its_case_stale(objects: Path, tmp_path: Path) -> None:
    dataset = read_dataset(objects)
    plan = make_plan(fingerprint_of(dataset, examine_dataset(dataset, tmp_path / "examined", workers=1)))
    preprocess_dataset(dataset, plan, "2d", tmp_path / "store", workers=1)
    (objects / "masks/b/1.png").unlink()
    done = preprocess_dataset(dataset, plan, "2d", tmp_path / "store", workers=1)
    assert done.prepared == ("b",)


def test_ways_to_code_labels_have_keys_of_their_own(objects: Path) -> None:
    from msseg.data.labels import LabelMap
    from msseg.instances.coding import InstanceCoding

    assert coding_key(LabelMap((0, 1))) == [0, 1]
    assert coding_key(InstanceCoding(1)) != coding_key(LabelMap(InstanceCoding(1).values[:2]))
