"""A flag is read once, at the right time."""

import torch

from reprefine.engine.finite_check.flag_reader import FlagReader, flag_reader

SET, CLEAR = torch.tensor(True), torch.tensor(False)


def test_on_the_cpu_the_step_itself_is_returned():
    reader = flag_reader(torch.device('cpu'))
    assert not reader.is_deferred
    assert reader.add(CLEAR, 1) is None
    assert reader.add(SET, 2) == 2
    assert reader.flush() is None


def test_deferred_flags_are_read_when_the_next_is_added_and_never_before():
    values = []

    def start_copy(flag):
        return lambda: values.append(bool(flag)) or values[-1]

    reader = FlagReader(start_copy)
    assert reader.is_deferred
    assert reader.add(CLEAR, 1) is None
    assert values == []
    assert reader.add(SET, 2) is None
    assert values == [False]
    assert reader.add(CLEAR, 3) == 2
    assert values == [False, True]
    assert reader.flush() is None
    assert reader.flush() is None
    assert values == [False, True, False]
