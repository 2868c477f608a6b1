"""A model's networks as one function of a batch of tiles, made ready for the device that they run on."""

from __future__ import annotations

import contextlib
import copy
import functools
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import nn

from msseg.devices import autocast_dtype
from msseg.inference.answers import Answer, Network, answering, is_guided
from msseg.inference.lanes import Forward, Lanes

# A shape that comes this often is worth a recording; the passes before it let the libraries choose their algorithms.
_PASSES_BEFORE_RECORDING = 3
# Recordings keep the memory of their pass; cases of many shapes would otherwise fill the device with them.
_RECORDINGS = 4
_TIMED_PASSES = 3
_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}

_log = logging.getLogger(__name__)


class Passes:
    """The networks' joint answer to a batch on any device; what was prepared for one is kept for the next case.

    `guided` counts the networks that decide which classes are present, 0 where they are not asked. `regions` says
    whether they score those.
    """

    def __init__(
        self, networks: Sequence[Network], branches: str = "accurate", guidance: bool = True, regions: bool = False
    ) -> None:
        self.guided = sum(map(is_guided, networks)) if guidance else 0
        self._networks = list(networks)
        self._ask = functools.partial(answering, branches=branches, guidance=guidance, regions=regions)
        self._ready: dict[torch.device, Forward] = {}
        self._lanes = Lanes()

    @property
    def count(self) -> int:
        """How many networks answer."""
        return len(self._networks)

    def on(self, device: torch.device) -> Forward:
        """The function of a batch (b, c, *spatial) on `device` that gives the sum of the networks' answers.

        Networks that lie elsewhere are copied there. On CUDA the layout is measured and passes of one shape are
        recorded and replayed: such an answer is overwritten by the next of its shape. On the CPU a batch is shared
        among threads in a session.
        """
        if device not in self._ready:
            networks = [_on_device(network, device) for network in self._networks]
            forward = _eager([self._ask(network) for network in networks], device)
            modules = [network for network in networks if isinstance(network, nn.Module)]
            if device.type == "cuda":
                self._ready[device] = Recorded(_in_best_layout(forward, modules))
            else:
                self._ready[device] = self._lanes.shared(forward)
        return self._ready[device]

    @contextlib.contextmanager
    def session(self, device: torch.device) -> Iterator[None]:
        """Without gradients; weights that the first pass casts to less precision are kept for all passes in here."""
        state = functools.partial(_without_gradients, device)
        lanes = self._lanes.open(state) if device.type == "cpu" else contextlib.nullcontext()
        with state(), lanes:
            yield

    def forget(self) -> None:
        """Give up what was prepared, and its memory."""
        self._ready.clear()


class Recorded:
    """Passes on CUDA, replayed from a recording (CUDA graph) where a shape comes often, which spares the launches."""

    def __init__(self, forward: Forward, record: Callable[[Forward, torch.Tensor], Forward] | None = None) -> None:
        self._forward = forward
        self._record = record or _cuda_graph
        self._seen: Counter[tuple[int, ...]] = Counter()
        self._recordings: dict[tuple[int, ...], Forward] = {}

    def __call__(self, tiles: torch.Tensor) -> Answer:
        shape = tuple(tiles.shape)
        self._seen[shape] += 1
        if self._seen[shape] == _PASSES_BEFORE_RECORDING and len(self._recordings) < _RECORDINGS:
            try:
                self._recordings[shape] = self._record(self._forward, tiles)
            except RuntimeError as error:  # an operator that cannot be recorded, or no memory for it
                _log.info("The network's passes are not recorded as a CUDA graph: %s", error)
        return self._recordings.get(shape, self._forward)(tiles)


@contextlib.contextmanager
def _without_gradients(device: torch.device) -> Iterator[None]:
    casts = autocast_dtype(device) is not None  # else there is nothing to keep, or no autocast on this device
    outer = torch.autocast(device.type, enabled=False) if casts else contextlib.nullcontext()
    with torch.inference_mode(), outer:
        yield


def _on_device(network: Network, device: torch.device) -> Network:
    if not isinstance(network, nn.Module):
        return network
    if all(weight.device == device for weight in network.parameters()):
        return network
    with torch.inference_mode(False):
        return copy.deepcopy(network).to(device)


def _eager(networks: Sequence[Forward], device: torch.device) -> Forward:
    def forward(tiles: torch.Tensor) -> Answer:
        with _autocast(device):
            return functools.reduce(Answer.__add__, (network(tiles) for network in networks))

    return forward


def _autocast(device: torch.device) -> contextlib.AbstractContextManager[object]:
    dtype = autocast_dtype(device)
    if dtype is None:
        return contextlib.nullcontext()
    # A recorded pass must not find weights that an earlier one has cast: their memory is not its own.
    return torch.autocast(device.type, dtype=dtype, cache_enabled=device.type == "cpu")


def _in_best_layout(forward: Forward, networks: Sequence[nn.Module]) -> Forward:
    """`forward` in the memory layout that is measured faster on the first batch."""
    chosen: list[torch.memory_format] = []

    def in_layout(tiles: torch.Tensor) -> Answer:
        if not chosen:
            formats = (torch.contiguous_format, _LAST[tiles.ndim])
            chosen.append(min(formats, key=lambda layout: _seconds(forward, networks, tiles, layout)))
            _lay_out(networks, chosen[0])
        return forward(tiles.contiguous(memory_format=chosen[0]))

    return in_layout


def _lay_out(networks: Sequence[nn.Module], layout: torch.memory_format) -> None:
    with torch.inference_mode(False), torch.no_grad():
        for network in networks:
            for weight in network.parameters():
                if weight.ndim in _LAST:
                    own = layout if layout is torch.contiguous_format else _LAST[weight.ndim]
                    weight.data = weight.data.contiguous(memory_format=own)


def _seconds(
    forward: Forward, networks: Sequence[nn.Module], tiles: torch.Tensor, layout: torch.memory_format
) -> float:
    """The fastest of a few passes, after one that lets the libraries choose."""
    _lay_out(networks, layout)
    laid_out = tiles.contiguous(memory_format=layout)
    seconds = []
    for _ in range(1 + _TIMED_PASSES):
        start = time.perf_counter()
        forward(laid_out)
        if tiles.device.type == "cuda":
            torch.cuda.synchronize(tiles.device)
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])


def _cuda_graph(forward: Forward, tiles: torch.Tensor) -> Forward:
    """`forward` for batches of this shape as one launch; its answer lies in the same memory every time."""
    given = tiles.clone()
    beside = torch.cuda.Stream(tiles.device)
    beside.wait_stream(torch.cuda.current_stream(tiles.device))
    with torch.cuda.stream(beside):  # so that no library allocates for the first time while it is recorded
        forward(given)
    torch.cuda.current_stream(tiles.device).wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        answer = forward(given)

    def replay(tiles: torch.Tensor) -> Answer:
        given.copy_(tiles)
        graph.replay()
        return answer

    return replay
