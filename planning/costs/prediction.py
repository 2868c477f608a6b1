"""What msseg_predict takes."""

from __future__ import annotations

from dataclasses import dataclass, replace

from planning.costs.cases import CaseSize, prepare_s, read_s
from planning.costs.estimate import Estimate, Part, estimate_of
from planning.costs.machine import Arithmetic, Machine
from planning.costs.network import network_seconds
from planning.counting import convolution_values, parameters
from planning.plan import Configuration
from planning.recording.tape import SINGLE_BYTES

_LIVE_SHARE = 0.25  # of the values that convolutions write, what is alive at least at once in evaluation
# Kernels that Winograd's algorithm has transformed, kept beside the weights that they are made of.
_TRANSFORMED_KERNELS = 1.6
_ALLOCATOR_SHARE = 1.1  # what an allocator holds over what is asked of it
_LABEL_FILE_SHARE = 0.01
# Of a pixel while objects are grown: regions, heights, seeds and objects of 4 bytes, masks, and what is counted on the
# way. Measured with 3355 objects on 6 megapixels: 24.4.
_OBJECT_BYTES = 25
STARTING = "start and load"
# Address space that the allocator of a process on the CPU asks for ahead (`msseg.networks.allocation`): nothing that is
# held, but what a limit of the system counts.
RESERVED_BYTES = 256 << 20


@dataclass(frozen=True)
class Kept:
    """What is held of a case until its files are written: the probabilities of all classes, and what objects take."""

    probabilities: bool = False
    objects: bool = False

    def bytes_of(self, num_classes: int, voxels: int) -> int:
        """Bytes of a case on its image's grid."""
        values = num_classes * SINGLE_BYTES if self.probabilities or self.objects else 0
        return (values + self.objects * _OBJECT_BYTES) * voxels


@dataclass(frozen=True)
class PredictedCase:
    """A case to segment: `patches` are tiles times views, `work_bytes` all memory of its scores and slabs."""

    size: CaseSize
    patches: int
    work_bytes: int


@dataclass(frozen=True)
class PredictionWork:
    """A model and how it is used. `networks` is the number of folds; `seen_at_once` patches form a batch.

    `alive_bytes` live while one passes a network on the CPU. `previous` is what the first network of a cascade has to
    do on the same cases before.
    """

    configuration: Configuration
    in_channels: int
    num_classes: int
    networks: int
    cases: tuple[PredictedCase, ...]
    device: str = "cpu"
    seen_at_once: int = 1
    workers: int = 1
    alive_bytes: int = 0
    previous: PredictionWork | None = None

    @property
    def stages(self) -> tuple[PredictionWork, ...]:
        """The work of all networks of a cascade, the first one first; of any other model its own alone."""
        return (self,) if self.previous is None else (*self.previous.stages, self)

    def of_one_fold(self) -> PredictionWork:
        """The same work with one fold."""
        return replace(self, networks=1, previous=None if self.previous is None else self.previous.of_one_fold())


def prediction_estimate(work: PredictionWork, machine: Machine) -> Estimate:
    """Read, prepare, segment, resample back and write every case."""
    process = machine.processes["predict"]
    on_device = work.device == "cuda" and machine.device is not None
    arithmetic = machine.device if on_device and machine.device is not None else machine.cpu
    around = around_parts(work, machine)
    hidden = _hidden_share(work, machine, on_device)
    memory = network_bytes(work)
    inputs = _inputs_alive_bytes(work)
    scores = max((case.work_bytes for stage in work.stages for case in stage.cases), default=0)
    patches = sum(case.patches for stage in work.stages for case in stage.cases)
    weights = sum(map(weight_bytes, work.stages))
    main = process.resident_bytes + inputs
    return estimate_of(
        parts=(
            Part(STARTING, process.start_s + weights / machine.cases.read_bytes_per_s),
            *(_network_part(stage, arithmetic) for stage in work.stages[:-1]),
            replace(_network_part(work, arithmetic), name="network"),
            *(Part(part.name, part.wall_s * hidden) for part in around),
        ),
        ram_bytes=main + (weights if on_device else memory) + scores,
        vram_bytes=arithmetic.base_bytes + memory + scores if on_device else 0,
        disk_bytes=sum(_LABEL_FILE_SHARE * case.size.voxels for case in work.cases),
        settings=[("cases", str(len(work.cases))), ("patches", str(patches))],
        assumptions=["nothing is cropped, no output is there yet, and label files shrink to 1 %"],
    )


def _network_part(work: PredictionWork, arithmetic: Arithmetic) -> Part:
    """All tiles through all networks, named by the configuration."""
    forward_s = network_seconds(work.configuration, work.in_channels, work.num_classes, arithmetic).forward_s
    seconds = sum(case.patches for case in work.cases) * work.networks * forward_s
    return Part(f"network ({work.configuration.name})", seconds)


def around_parts(work: PredictionWork, machine: Machine) -> list[Part]:
    """What happens to images outside the network, one after the other."""
    rates = machine.cases
    sizes = [case.size for case in work.cases]
    read = sum(read_s(one.image_file_bytes, one.image_bytes, one.compressed, rates) for one in sizes)
    prepared = sum(prepare_s(case.size, rates) for stage in work.stages for case in stage.cases)
    scored = sum(
        stage.num_classes * max(case.size.voxels, case.size.new_voxels) for stage in work.stages for case in stage.cases
    )
    return [
        Part("read and inflate", read),
        Part("normalise and resample", prepared),
        Part("resample back", scored / rates.score_voxels_per_s / _score_threads(machine)),
        Part("write", sum(one.voxels for one in sizes) / rates.gzip_label_bytes_per_s),
    ]


def _score_threads(machine: Machine) -> float:
    """Interpolation of scores runs on all threads of the network."""
    return max(1, machine.threads)


def _hidden_share(work: PredictionWork, machine: Machine, on_device: bool) -> float:
    """How much of the work around the network is seen in the wall time.

    With one case nothing overlaps. With several the CPU's work goes on beside the network's: a graphics card leaves it
    to other cores, while on the CPU both share the cores.
    """
    if len(work.cases) < 2:
        return 1.0
    return 1 / len(work.cases) if on_device else 1 / min(machine.cores, 2)


def weight_bytes(work: PredictionWork) -> int:
    """The weights of all folds of one stage."""
    count = parameters(work.configuration, work.in_channels, work.num_classes)
    return work.networks * count * SINGLE_BYTES


def network_bytes(work: PredictionWork) -> int:
    """All weights, and what lives while a batch of patches passes a network."""
    weights = sum(map(weight_bytes, work.stages))
    return round((1 + _TRANSFORMED_KERNELS) * weights + max(map(_passing_bytes, work.stages)))


def _passing_bytes(work: PredictionWork) -> float:
    values = convolution_values(work.configuration, work.in_channels, work.num_classes)
    return max(_LIVE_SHARE * values * work.seen_at_once * SINGLE_BYTES * _ALLOCATOR_SHARE, work.alive_bytes)


def _inputs_alive_bytes(work: PredictionWork) -> int:
    """Images as read and as prepared: the one in the network and those read ahead; of a cascade also the class map."""
    earlier = [stage.cases for stage in work.stages[:-1]]
    prepared = [sum(one.size.new_voxels for one in stages) for stages in zip(work.cases, *earlier, strict=True)]
    each = sorted(
        (
            SINGLE_BYTES * one.size.channels * (one.size.voxels + voxels)
            for one, voxels in zip(work.cases, prepared, strict=True)
        ),
        reverse=True,
    )
    maps = max((one.size.voxels + one.size.new_voxels for one in work.cases), default=0) if earlier else 0
    return sum(each[: work.workers + 1]) + maps


def most_bytes_of_scores(work: PredictionWork, machine: Machine, max_bytes: int) -> int:
    """What is left for the scores of one case where all of it must stay within `max_bytes`; may be below zero."""
    reserved = RESERVED_BYTES if work.device == "cpu" else 0
    others = machine.processes["predict"].resident_bytes + _inputs_alive_bytes(work) + network_bytes(work)
    return max_bytes - others - reserved
