import pytest
import torch

from reprefine.engine.errors import UserError
from reprefine.tasks.segmentation.functional import LabelledFeatures
from reprefine.tasks.segmentation.memory_bank import MemoryBank


def numbered(start: int, end: int) -> LabelledFeatures:
    """Entries whose features and shares are their number."""
    numbers = torch.arange(start, end).float()[:, None]
    return LabelledFeatures(numbers.expand(-1, 3), numbers.expand(-1, 2) / 100)


def filled(max_entries: int | None, parts: list[int], seed: int = 0) -> MemoryBank:
    bank = MemoryBank(3, 2, max_entries, seed)
    for start, end in zip([0, *parts[:-1]], parts, strict=True):
        bank.add(numbered(start, end))
    return bank


def numbers_in(bank: MemoryBank) -> list[int]:
    return bank.entries().features[:, 0].int().tolist()


def test_all_entries_are_kept_without_max_entries():
    bank = filled(None, [4, 5, 9])
    assert numbers_in(bank) == list(range(9))
    assert torch.equal(bank.entries().shares, numbered(0, 9).shares)
    assert len(bank) == 9


def test_the_sample_does_not_depend_on_the_number_of_calls():
    alone, together = filled(6, list(range(1, 31))), filled(6, [30])
    assert numbers_in(alone) == numbers_in(together)
    assert len(set(numbers_in(alone))) == 6
    assert numbers_in(filled(6, [30], seed=1)) != numbers_in(alone)


def test_memory_is_limited_during_filling():
    bank = MemoryBank(3, 2, 10)
    for start in range(0, 200, 5):
        bank.add(numbered(start, start + 5))
        assert len(bank._rows) + sum(len(rows) for rows, _ in bank._added) <= 20


def test_every_entry_is_equally_likely():
    counts = torch.zeros(20)
    for seed in range(400):
        counts[numbers_in(filled(5, [7, 20], seed))] += 1
    # 100 expected, standard deviation 8.7
    assert counts.sum() == 2000
    assert (counts - 100).abs().max() < 40


def test_a_state_dict_restores_the_entries():
    bank, other = filled(6, [30]), filled(None, [3])
    other.load_state_dict(bank.state_dict())
    assert numbers_in(other) == numbers_in(bank)
    assert torch.equal(other.entries().shares, bank.entries().shares)


def test_filling_again_gives_the_same():
    bank = filled(6, [30])
    before = numbers_in(bank)
    bank.clear()
    assert len(bank) == 0
    bank.add(numbered(0, 30))
    assert numbers_in(bank) == before


@pytest.mark.parametrize(
    ('state', 'found'), [(torch.zeros(4, 6), r'\(4, 6\)'), (torch.zeros(5), r'\(5,\)'), ([1], 'list')]
)
def test_a_bank_of_another_model_is_refused(state, found):
    with pytest.raises(UserError, match=f'size mismatch for the memory bank: {found} in the checkpoint'):
        MemoryBank(3, 2).set_extra_state(state)


def test_entries_can_be_added_to_a_loaded_bank():
    bank = filled(None, [3])
    bank.load_state_dict(filled(None, [5]).state_dict())
    bank.add(numbered(7, 9))
    assert numbers_in(bank) == [0, 1, 2, 3, 4, 7, 8]
