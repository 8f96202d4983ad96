"""A flag is looked at once, at the right time."""

import torch

from reprefine.engine.finite_check.deferred_read import FlagReader, flag_reader

UP, DOWN = torch.tensor(True), torch.tensor(False)


def test_on_the_cpu_the_step_itself_is_told():
    reader = flag_reader(torch.device('cpu'))
    assert not reader.is_late
    assert reader.add(DOWN, 1) is None
    assert reader.add(UP, 2) == 2
    assert reader.flush() is None


def test_late_flags_are_looked_at_when_the_next_comes_and_never_before():
    looked = []

    def start_copy(flag):
        return lambda: looked.append(bool(flag)) or looked[-1]

    reader = FlagReader(start_copy)
    assert reader.is_late
    assert reader.add(DOWN, 1) is None
    assert looked == []
    assert reader.add(UP, 2) is None
    assert looked == [False]
    assert reader.add(DOWN, 3) == 2
    assert looked == [False, True]
    assert reader.flush() is None
    assert reader.flush() is None
    assert looked == [False, True, False]
