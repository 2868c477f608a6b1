from __future__ import annotations

from planning.recording.tape import Tape


def test_a_tape_by_hand():
    tape = Tape(batch=1)
    image = tape.leaf(1, (10,))  # 40 bytes all the way
    first = tape.apply([image], 2, (10,), keeps=[image], weights=[tape.weight("first", 5)])  # 80, kept by the second
    second = tape.apply([first], 1, (10,), keeps=[first], weights=[tape.weight("second", 3)])  # 40
    assert (tape.meter.now, tape.meter.peak) == (160, 160)
    del first
    assert tape.meter.now == 160
    tape.backward(second)
    # On the way back: the gradients of the second result (40) and of the first (80), that of 3 weights (12).
    assert tape.meter.peak == 160 + 40 + 80 + 12
    assert tape.meter.now == 40 + 40 + 12 + 20  # image, second result, both weights' gradients


def test_what_two_operators_make_of_one_tensor_is_added_in_place():
    tape = Tape(batch=1)
    x = tape.apply([tape.leaf(1, (10,))], 1, (10,), weights=[tape.weight("w", 1)])
    y = tape.apply([x], 1, (10,))
    z = tape.apply([x], 1, (10,))
    total = tape.apply([y, z], 1, (10,), backward="same")
    tape.backward(total)
    # Image, x, y, z and the total are held here, and the weight's gradient is left.
    assert tape.meter.now == 4 * 40 + 4


def test_an_operator_tells_what_it_writes_and_multiplies_for_one_sample():
    tape = Tape(batch=3)
    weights = [tape.weight("w", 2, 1, 3)]
    tape.apply([tape.leaf(1, (10,))], 2, (10,), weights=weights, kind="convolution", products=3)
    (operator,) = tape.operators
    assert (operator.kind, operator.values, operator.products) == ("convolution", 20, 3)
    assert tape.weights["w"].count == 6
