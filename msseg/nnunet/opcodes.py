"""The plain data in a pickle, by an interpreter of its own that calls nothing the file names.

A pickle is a program. `pickletools.genops` only splits it into opcodes; here each admitted opcode is a function of this
module on plain lists and dictionaries. A name in the file (`GLOBAL`) is never imported: it is looked up in a
table of functions of this package. So a hostile file has nothing to reach for, whatever it holds. This is
stricter than torch's `weights_only` loader, which calls what it admits, and which a crafted file got past before torch
2.6 (CVE-2025-32434) while this package runs from torch 2.4 on.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from msseg.errors import CheckpointError

Name = tuple[str, str]
"""A module and a name in it, as the file spells them."""

_KEY_TYPES = (str, int, float, bool, type(None))


class RefusedError(ValueError):
    """Why a pickle is not plain data; the reader of the file adds which file."""


@dataclass(frozen=True)
class Global:
    """A name in the file that may be called with arguments, or be an argument itself; nothing is behind it."""

    name: Name


class Stateful:
    """A value that a pickle gives a state after it is made."""

    def with_state(self, state: Any) -> Any:
        """The value with the state, or RefusedError."""
        raise NotImplementedError


@dataclass
class Machine:
    """The stack and the memo of one pickle. `values` make the values of admitted names, `persistent` of storages."""

    values: Mapping[Name, Callable[[tuple[Any, ...]], Any]]
    persistent: Callable[[Any], Any]
    stack: list[Any] = field(default_factory=list)
    below: list[list[Any]] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)

    def since_mark(self) -> list[Any]:
        """What was pushed since the last mark; the stack is again the one below it."""
        if not self.below:
            raise RefusedError("an opcode that closes what none has opened")
        pushed, self.stack = self.stack, self.below.pop()
        return pushed

    def pop(self) -> Any:
        """The topmost value, taken off."""
        if not self.stack:
            raise RefusedError("an opcode that takes more than was put down")
        return self.stack.pop()

    def top(self, kind: type, what: str) -> Any:
        """The topmost value, left there; it must be exactly of this kind."""
        if not self.stack or type(self.stack[-1]) is not kind:
            raise RefusedError(f"an opcode that fills {what} where there is none")
        return self.stack[-1]


def plain_data(
    source: bytes,
    values: Mapping[Name, Callable[[tuple[Any, ...]], Any]],
    persistent: Callable[[Any], Any],
    path: Path,
) -> Any:
    """The value in a pickle of protocol 2 to 5; CheckpointError naming `path` and the first thing that is not admitted.

    `values` has for each admitted name the function from its call's arguments to a value.
    """
    try:
        return _run(source, Machine(values, persistent))
    except (RefusedError, ValueError, IndexError, KeyError, TypeError) as problem:
        raise CheckpointError(
            f"{path}: found {problem}; expected tensors, numbers, texts and containers of these, as nnU-Net saves "
            "them. Nothing in the file was run. Take the checkpoint from where it was trained, and do not open this "
            "file with torch.load."
        ) from None


def _run(source: bytes, machine: Machine) -> Any:
    for opcode, argument, position in pickletools.genops(source):
        if opcode.name == "STOP":
            return machine.pop()
        try:
            action = OPCODES[opcode.name]
        except KeyError:
            raise RefusedError(f"the opcode {opcode.name} at byte {position}") from None
        action(machine, argument)
    raise RefusedError("a pickle without an end")


def _ignore(machine: Machine, argument: Any) -> None:
    """Protocol numbers and frames change nothing."""


def _push(machine: Machine, argument: Any) -> None:
    machine.stack.append(argument)


def _constant(make: Callable[[], Any]) -> Callable[[Machine, Any], None]:
    def push(machine: Machine, argument: Any) -> None:
        machine.stack.append(make())

    return push


def _mark(machine: Machine, argument: Any) -> None:
    machine.below.append(machine.stack)
    machine.stack = []


def _pop(machine: Machine, argument: Any) -> None:
    machine.pop()


def _pop_mark(machine: Machine, argument: Any) -> None:
    machine.since_mark()


def _tuple(machine: Machine, argument: Any) -> None:
    pushed = tuple(machine.since_mark())
    machine.stack.append(pushed)


def _short_tuple(length: int) -> Callable[[Machine, Any], None]:
    def push(machine: Machine, argument: Any) -> None:
        last_first = [machine.pop() for _ in range(length)]
        machine.stack.append(tuple(reversed(last_first)))

    return push


def _append(machine: Machine, argument: Any) -> None:
    item = machine.pop()
    machine.top(list, "a list").append(item)


def _appends(machine: Machine, argument: Any) -> None:
    items = machine.since_mark()
    machine.top(list, "a list").extend(items)


def _set_item(machine: Machine, argument: Any) -> None:
    value, key = machine.pop(), machine.pop()
    _fill(machine, [key, value])


def _set_items(machine: Machine, argument: Any) -> None:
    _fill(machine, machine.since_mark())


def _fill(machine: Machine, flat: list[Any]) -> None:
    target = machine.top(dict, "a dictionary")
    if len(flat) % 2:
        raise RefusedError("a dictionary's key without its value")
    for key, value in zip(flat[::2], flat[1::2], strict=True):
        if type(key) not in _KEY_TYPES:
            raise RefusedError(f"a dictionary's key of the kind {type(key).__name__}")
        target[key] = value


def _remember(machine: Machine, argument: int) -> None:
    if not machine.stack:
        raise RefusedError("an opcode that remembers nothing")
    machine.memo[argument] = machine.stack[-1]


def _memoize(machine: Machine, argument: Any) -> None:
    _remember(machine, len(machine.memo))


def _recall(machine: Machine, argument: int) -> None:
    if argument not in machine.memo:
        raise RefusedError(f"a reference to the value {argument}, which is not there")
    machine.stack.append(machine.memo[argument])


def _global(machine: Machine, argument: str) -> None:
    module, _, name = argument.partition(" ")
    _admit(machine, module, name)


def _stack_global(machine: Machine, argument: Any) -> None:
    name, module = machine.pop(), machine.pop()
    _admit(machine, module, name)


def _admit(machine: Machine, module: Any, name: Any) -> None:
    if type(module) is not str or type(name) is not str:
        raise RefusedError("a name that is not a text")
    if (module, name) not in machine.values:
        raise RefusedError(f"the name {module}.{name}")
    machine.stack.append(Global((module, name)))


def _reduce(machine: Machine, argument: Any) -> None:
    arguments, function = machine.pop(), machine.pop()
    if type(function) is not Global or type(arguments) is not tuple:
        raise RefusedError("a call of what is no name")
    machine.stack.append(machine.values[function.name](arguments))


def _build(machine: Machine, argument: Any) -> None:
    """A state for the value below; the attributes of a dictionary are left out."""
    state = machine.pop()
    if not machine.stack:
        raise RefusedError("a state for nothing")
    target = machine.stack[-1]
    if type(target) is dict and type(state) is dict:
        return
    if not isinstance(target, Stateful):
        raise RefusedError(f"a state for a value of the kind {type(target).__name__}")
    machine.stack[-1] = target.with_state(state)


def _persistent(machine: Machine, argument: Any) -> None:
    machine.stack.append(machine.persistent(machine.pop()))


_PUSHED = (
    "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
    "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
)  # fmt: skip

OPCODES: dict[str, Callable[[Machine, Any], None]] = {
    **dict.fromkeys(("PROTO", "FRAME"), _ignore),
    **dict.fromkeys(_PUSHED, _push),
    "NONE": _constant(lambda: None),
    "NEWTRUE": _constant(lambda: True),
    "NEWFALSE": _constant(lambda: False),
    "EMPTY_TUPLE": _constant(tuple),
    "EMPTY_LIST": _constant(list),
    "EMPTY_DICT": _constant(dict),
    "MARK": _mark,
    "POP": _pop,
    "POP_MARK": _pop_mark,
    "TUPLE": _tuple,
    "TUPLE1": _short_tuple(1),
    "TUPLE2": _short_tuple(2),
    "TUPLE3": _short_tuple(3),
    "APPEND": _append,
    "APPENDS": _appends,
    "SETITEM": _set_item,
    "SETITEMS": _set_items,
    "BINPUT": _remember,
    "LONG_BINPUT": _remember,
    "MEMOIZE": _memoize,
    "BINGET": _recall,
    "LONG_BINGET": _recall,
    "GLOBAL": _global,
    "STACK_GLOBAL": _stack_global,
    "REDUCE": _reduce,
    "BUILD": _build,
    "BINPERSID": _persistent,
}
