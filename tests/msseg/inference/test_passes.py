from __future__ import annotations

import torch

from msseg.inference import passes as passes_module
from msseg.inference.answers import Answer
from msseg.inference.passes import Passes, Recorded
from msseg.networks.convolutions import Convolution3d

CPU = torch.device("cpu")


def test_the_networks_answers_are_summed_and_counted():
    passes = Passes([lambda batch: batch, lambda batch: 2 * batch])
    with passes.session(CPU):
        assert passes.on(CPU)(torch.ones(1, 1, 2)).logits.tolist() == [[[3.0, 3.0]]]
    assert passes.count == 2 and passes.guided == 0


def test_a_device_is_made_ready_once_until_it_is_forgotten():
    passes = Passes([torch.nn.Identity()])
    first = passes.on(CPU)
    assert passes.on(CPU) is first
    passes.forget()
    assert passes.on(CPU) is not first


def test_networks_that_lie_elsewhere_are_copied_and_stay_where_they_are():
    network, meta = Convolution3d(1, 1, 1), torch.device("meta")
    with torch.inference_mode():
        copied = passes_module._on_device(network, meta)
    assert copied.weight.is_meta and not copied.weight.is_inference()
    assert network.weight.device == CPU and passes_module._on_device(network, CPU) is network


def test_a_shape_that_comes_often_is_recorded_and_replayed():
    recorded: list[tuple[int, ...]] = []

    def record(forward, tiles):
        recorded.append(tuple(tiles.shape))
        return lambda again: Answer(-again)

    run = Recorded(Answer, record)
    answers = [run(torch.ones(2, 1)).logits[0].item() for _ in range(4)]
    assert answers == [1, 1, -1, -1] and recorded == [(2, 1)]
    assert run(torch.ones(1, 1)).logits.item() == 1


def test_what_cannot_be_recorded_runs_as_ever():
    def refuse(forward, tiles):
        raise RuntimeError("operation not permitted when stream is capturing")

    run = Recorded(Answer, refuse)
    assert [run(torch.ones(1)).logits.item() for _ in range(5)] == [1] * 5


def test_recordings_do_not_pile_up():
    run = Recorded(Answer, lambda forward, tiles: forward)
    for size in range(1, 10):
        for _ in range(3):
            run(torch.ones(size))
    assert len(run._recordings) == passes_module._RECORDINGS


def test_the_layout_that_is_faster_is_kept_for_tiles_and_weights(monkeypatch):
    network = torch.nn.Conv3d(2, 2, 3)
    seen: list[bool] = []

    def forward(tiles):
        seen.append(tiles.is_contiguous(memory_format=torch.channels_last_3d))
        return Answer(network(tiles))

    for slow in (False, True):  # first the one layout is taken for slow, then the other

        def seconds(_forward, networks, tiles, layout, slow=slow):
            return float((layout is torch.channels_last_3d) == slow)

        monkeypatch.setattr(passes_module, "_seconds", seconds)
        in_layout = passes_module._in_best_layout(forward, [network])
        with torch.inference_mode():
            in_layout(torch.ones(1, 2, 4, 4, 4))
        assert seen[-1] is not slow
        assert network.weight.is_contiguous(memory_format=torch.channels_last_3d) is not slow


def test_layouts_are_timed_after_a_pass_that_does_not_count():
    network, calls = torch.nn.Conv2d(1, 1, 1), []

    def forward(tiles):
        calls.append(tiles.shape)
        return Answer(network(tiles))

    with torch.inference_mode():
        assert passes_module._seconds(forward, [network], torch.ones(1, 1, 2, 2), torch.channels_last) > 0
    assert len(calls) == 1 + passes_module._TIMED_PASSES
