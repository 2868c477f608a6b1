from __future__ import annotations

from msseg.training.curves import draw_curves
from msseg.training.log import append_entry


def test_without_an_epoch_there_is_nothing_to_draw(tmp_path):
    assert draw_curves(tmp_path) is None


def test_a_log_with_unseen_classes_becomes_a_picture(tmp_path):
    log = tmp_path / "log.jsonl"
    append_entry(log, {"event": "start", "step": 0, "labels": ["background", "kidney", "tumour"]})
    for epoch in range(3):
        append_entry(
            log,
            {
                "event": "epoch",
                "step": 10 * (epoch + 1),
                "loss": None if epoch == 1 else 1.0 / (epoch + 1),
                "patch_dice": [0.5, None],
                "learning_rate": 1e-3,
            },
        )
    append_entry(log, {"event": "validation", "step": 20, "dice": [0.4, None]})
    path = draw_curves(tmp_path)
    assert path is not None
    assert path.read_bytes().startswith(b"\x89PNG")
