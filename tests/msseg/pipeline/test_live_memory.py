from __future__ import annotations

import torch

from msseg.pipeline.live_memory import peak_bytes

CPU = torch.device("cpu")


def test_the_peak_counts_what_lives_at_once_and_nothing_that_was_there_before() -> None:
    before = torch.zeros(1000)

    def compute() -> torch.Tensor:
        first = before + 1  # 4000 bytes
        second = first * 2  # 8000 with the first
        del first  # 4000
        view = second.view(10, 100)  # no memory of its own
        return view.sum() + torch.zeros(2000).add_(1)  # 4 + 8000 + 8000 more

    assert peak_bytes(compute, CPU) == 4000 + 4 + 8000 + 8000


def test_a_second_call_finds_the_same() -> None:
    convolution = torch.nn.Conv3d(1, 8, 3, padding=1)
    x = torch.zeros(1, 1, 8, 8, 8)
    with torch.inference_mode():
        assert [peak_bytes(lambda: convolution(x), CPU) for _ in range(2)] == [8 * 8**3 * 4] * 2
