"""If one of several ranks cannot load, all of them raise the same error, and none waits."""

import pytest
import torch

from tests.engine.checkpoints import load_workers
from tests.helpers.forked import run_ranks

LINES = {
    'missing': 'checkpoint a.pth does not exist',
    'damaged': 'checkpoint a.pth cannot be read, it is truncated',
    'malicious': 'checkpoint a.pth refused: it holds objects whose loading may run code',
    'other model': 'checkpoint a.pth belongs to another model: 0.0% of the model loaded: 0 keys matched, 1 missing',
    'weights only': 'checkpoint a.pth holds no training state',
    'pretrained': 'rank 1: checkpoint a.pth does not exist',
    'pretrained part': 'rank 1: checkpoint a.pth does not exist',
}


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('gloo')
    run_ranks(load_workers.work, str(folder))
    return folder


@pytest.mark.parametrize('case', load_workers.CASES)
def test_both_ranks_raise(folder, case):
    first, second = (torch.load(folder / f'rank{rank}.pth', weights_only=True)[case] for rank in range(2))
    assert second.startswith(LINES[case])
    assert first == second
    assert not (folder / 'created').exists()


def test_all_ranks_start_from_the_weights_of_the_first(folder):
    for rank in range(2):
        weights = torch.load(folder / f'rank{rank}.pth', weights_only=True)['weights']
        assert all((value == 1).all() for value in weights.values())
