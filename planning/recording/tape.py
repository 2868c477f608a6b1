"""A network's operators, recorded by the sizes of their tensors alone: what they compute, what they hold, and when.

A `Map` stands for a tensor. Its memory lives as long as anything refers to it, as PyTorch's does: a variable of the
caller, or an operator that needs it for the way back. `Tape.backward` then walks the operators backwards, as autograd
does, the latest first: each makes the gradients of its inputs and lets go of what it kept.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

INT64_BYTES: Final = 8
SINGLE_BYTES: Final = 4

Backward = Literal["new", "same", "slices"]
# What an operator counts as: "skip" is a way past a block that is pooled and nothing else.
Kind = Literal["convolution", "transposed", "linear", "skip", "other"]


@dataclass
class Meter:
    """Bytes in use now, and the most there were at once."""

    now: int = 0
    peak: int = 0

    def change(self, size: int) -> None:
        self.now += size
        self.peak = max(self.peak, self.now)

    def touch(self, size: int) -> None:
        """`size` bytes more for a moment."""
        self.peak = max(self.peak, self.now + size)


class Memory:
    """Bytes that count from here until nothing refers to them."""

    def __init__(self, meter: Meter, size: int):
        self.size = size
        self._meter = meter
        meter.change(size)

    def __del__(self) -> None:
        self._meter.change(-self.size)


@dataclass(eq=False)
class Map:
    """A tensor of `channels` maps of `shape` voxels for each sample, made by `operator` (None: it has no gradient)."""

    channels: int
    shape: tuple[int, ...]
    memory: Memory
    operator: Operator | None = None


@dataclass(eq=False)
class Weight:
    """A parameter tensor; its gradient is made on the first way back through it and added to on the others."""

    count: int
    gradient: Memory | None = None


@dataclass
class Gradient:
    """A gradient of `size` bytes; a view of a larger one keeps all of that alive."""

    memory: Memory
    size: int


@dataclass(eq=False)
class Operator:
    """One recorded operator: who made its inputs, how large they are, and what it keeps for the way back.

    It writes `values` for one sample, with `products` multiply-adds behind each.
    """

    inputs: tuple[Operator | None, ...]
    input_sizes: tuple[int, ...]
    kept: list[Memory]
    backward: Backward
    weights: tuple[Weight, ...]
    scratch: int
    kind: Kind
    values: int
    products: int


@dataclass
class Tape:
    """The operators of one training step on `batch` samples; a value takes `value_bytes`."""

    batch: int
    value_bytes: int = SINGLE_BYTES
    meter: Meter = field(default_factory=Meter)
    weights: dict[str, Weight] = field(default_factory=dict)
    operators: list[Operator] = field(default_factory=list)

    def size(self, channels: int, shape: Sequence[int]) -> int:
        """Bytes of so many maps for every sample."""
        return channels * math.prod(shape) * self.batch * self.value_bytes

    def leaf(self, channels: int, shape: Sequence[int]) -> Map:
        """A tensor without gradient, such as the image."""
        return Map(channels, tuple(shape), Memory(self.meter, self.size(channels, shape)))

    def weight(self, name: str, *shape: int) -> Weight:
        """The parameter tensor of that name, made on the first call."""
        return self.weights.setdefault(name, Weight(math.prod(shape)))

    def apply(
        self,
        inputs: Sequence[Map],
        channels: int,
        shape: Sequence[int],
        *,
        keeps: Sequence[Map] = (),
        keeps_result: bool = False,
        keeps_bytes: int = 0,
        in_place: bool = False,
        backward: Backward = "new",
        weights: Sequence[Weight] = (),
        scratch: int = 0,
        kind: Kind = "other",
        products: int = 0,
    ) -> Map:
        """The result of an operator.

        It keeps the memory of `keeps`, of its result and `keeps_bytes` more. `in_place` writes to the first input.
        `backward` makes a "new" gradient for each input, hands on the "same" one, or "slices" of it. `scratch` bytes
        live beside these for a moment. `products` are the multiply-adds behind one value of one sample.
        """
        size = self.size(channels, shape)
        memory = inputs[0].memory if in_place else Memory(self.meter, size)
        kept = [one.memory for one in keeps] + [memory] * keeps_result
        if keeps_bytes:
            kept.append(Memory(self.meter, keeps_bytes))
        operator = None
        if weights or any(one.operator for one in inputs):
            operator = Operator(
                inputs=tuple(one.operator for one in inputs),
                input_sizes=tuple(self.size(one.channels, one.shape) for one in inputs),
                kept=kept,
                backward=backward,
                weights=tuple(weights),
                scratch=scratch,
                kind=kind,
                values=channels * math.prod(shape),
                products=products,
            )
            self.operators.append(operator)
        return Map(channels, tuple(shape), memory, operator)

    def backward(self, result: Map) -> None:
        """Walk back from `result`; its gradients are left in the weights."""
        pending: dict[Operator, Gradient] = {}
        if result.operator is not None:
            size = self.size(result.channels, result.shape)
            pending[result.operator] = Gradient(Memory(self.meter, size), size)
        while self.operators:
            operator = self.operators.pop()
            if operator in pending:
                self._step_back(operator, pending)

    def _step_back(self, operator: Operator, pending: dict[Operator, Gradient]) -> None:
        gradient = pending.pop(operator)
        made = [
            None if source is None else self._gradient_of_input(operator.backward, gradient, size)
            for source, size in zip(operator.inputs, operator.input_sizes, strict=True)
        ]
        for weight in operator.weights:
            size = weight.count * SINGLE_BYTES
            if weight.gradient is None:
                weight.gradient = Memory(self.meter, size)
            else:
                self.meter.touch(size)
        if operator.scratch:
            self.meter.touch(operator.scratch)
        operator.kept.clear()
        del gradient
        for source, one in zip(operator.inputs, made, strict=True):
            if source is not None and one is not None:
                pending[source] = self._added(pending.pop(source, None), one)

    def _gradient_of_input(self, backward: Backward, gradient: Gradient, size: int) -> Gradient:
        return Gradient(Memory(self.meter, size) if backward == "new" else gradient.memory, size)

    def _added(self, before: Gradient | None, more: Gradient) -> Gradient:
        """The sum of two gradients; it takes new memory where the first one shares its own with another tensor."""
        if before is None:
            return more
        if before.memory.size == before.size:
            return before
        return Gradient(Memory(self.meter, before.size), before.size)
