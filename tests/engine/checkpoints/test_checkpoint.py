import os

import numpy as np
import pytest
import torch
from torch import nn

from reprefine.engine.checkpoints.checkpoint import read_checkpoint
from reprefine.engine.checkpoints.weights import check_match, load_weights
from reprefine.engine.errors import UserError


class RunsCode:
    """Pickles to a call that creates a folder."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def save(path, content):
    torch.save(content, path)
    return str(path)


def test_reads_a_checkpoint(tmp_path):
    weight = torch.randn(3)
    path = save(tmp_path / 'a.pth', dict(state_dict=dict(w=weight), meta=dict(epoch=1)))
    assert torch.equal(read_checkpoint(path)['state_dict']['w'], weight)


def test_missing_file_is_named_with_the_checkpoints_of_its_folder(tmp_path):
    save(tmp_path / 'epoch_1.pth', {})
    with pytest.raises(UserError, match='epoch_2.pth does not exist; its folder holds epoch_1.pth'):
        read_checkpoint(str(tmp_path / 'epoch_2.pth'))


@pytest.mark.parametrize('legacy', [False, True])
@pytest.mark.parametrize('fraction', [0.0, 0.1, 0.5, 0.95])
def test_truncated_file_is_refused(tmp_path, legacy, fraction):
    path = tmp_path / 'a.pth'
    torch.save(dict(w=torch.randn(1000)), path, _use_new_zipfile_serialization=not legacy)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * fraction)])
    with pytest.raises(UserError, match='a.pth cannot be read, it is truncated'):
        read_checkpoint(str(path))


def test_pickled_code_is_refused_and_not_run(tmp_path):
    folder = tmp_path / 'created'
    path = save(tmp_path / 'a.pth', dict(state_dict={}, payload=RunsCode(folder)))
    with pytest.raises(UserError, match='a.pth refused: it holds objects whose loading may run code'):
        read_checkpoint(path)
    assert not folder.exists()


def test_torch_load_in_host_libraries_is_weights_only_too(tmp_path):
    folder = tmp_path / 'created'
    path = save(tmp_path / 'a.pth', RunsCode(folder))
    with pytest.raises(Exception, match='[Ww]eights.only'):
        torch.load(path, weights_only=False)
    assert not folder.exists()


def test_a_file_without_a_dict_is_refused(tmp_path):
    with pytest.raises(UserError, match='holds a Tensor'):
        read_checkpoint(save(tmp_path / 'a.pth', torch.zeros(2)))


def net():
    return nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))


def test_full_match_loads_every_value():
    source, target = net(), net()
    match = load_weights(target, dict(state_dict=source.state_dict()))
    assert match == (1.0, 4, [], {}, [], {})
    assert match.exact
    assert str(match) == '100.0% of the model loaded: 4 keys matched'
    for key, value in source.state_dict().items():
        assert torch.equal(target.state_dict()[key], value)


def test_ratio_counts_elements_and_keys_of_both_sides_are_named():
    source, target = net().state_dict(), net()
    del source['0.weight']  # 16 of the 30 elements
    source['other'] = torch.zeros(1)
    source['1.bias'] = torch.zeros(7)  # 2 elements, another shape
    before = target[1].bias.clone()
    match = load_weights(target, source)
    assert match.ratio == pytest.approx(1 - 18 / 30)
    assert match == (match.ratio, 2, ['0.weight'], {'1.bias': ([7], [2])}, ['other'], {})
    assert match.not_loaded == ['0.weight', '1.bias']
    assert not match.exact
    line = '2 keys matched, 1 missing (0.weight), 1 size mismatch (1.bias is [7] instead of [2]), 1 unexpected (other)'
    assert str(match) == f'40.0% of the model loaded: {line}'
    assert torch.equal(target[1].bias, before)
    assert torch.equal(target[1].weight, source['1.weight'])


def test_prefix_of_a_distributed_wrapper_is_dropped():
    source = {f'module.{key}': value for key, value in net().state_dict().items()}
    assert load_weights(net(), source).ratio == 1.0


def test_load_hooks_of_modules_are_respected():
    class Refined(nn.Module):
        """A layer that loads a checkpoint of the baseline, except for what the refinement adds."""

        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(2, 2)
            self.added = nn.Parameter(torch.ones(100))
            self.register_load_state_dict_post_hook(self._ignore_added)

        def _load_from_state_dict(self, state_dict, prefix, *args):
            for name in ('weight', 'bias'):
                state_dict[f'{prefix}layer.{name}'] = state_dict.pop(prefix + name)
            super()._load_from_state_dict(state_dict, prefix, *args)

        @staticmethod
        def _ignore_added(module, keys):
            keys.missing_keys.remove('added')

    plain, refined = nn.Linear(2, 2), Refined()
    assert load_weights(refined, plain.state_dict()) == (1.0, 2, [], {}, [], {})
    assert torch.equal(refined.layer.weight, plain.weight)


def test_min_ratio():
    match = load_weights(net(), {'0.weight': torch.zeros(4, 4)})
    check_match(match, 'a.pth', 0.5)
    line = r'a.pth belongs to another model: 53.3% .*: 1 keys matched, 3 missing \(0.bias, 1.weight'
    with pytest.raises(UserError, match=line):
        check_match(match, 'a.pth', 0.6)


def test_keys_that_a_module_skips_on_purpose_are_not_missing():
    class Windowed(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(2))
            self.register_buffer('table', torch.arange(3.0))
            self._register_load_state_dict_pre_hook(lambda state, *_: state.pop('table', None))

    file = {'weight': torch.ones(2), 'table': torch.zeros(9)}
    model = Windowed()
    match = load_weights(model, file)
    assert (match.ratio, match.matched, match.not_loaded) == (1, 1, [])
    assert model.weight.tolist() == [1, 1]
    assert model.table.tolist() == [0, 1, 2]
    assert load_weights(Windowed(), {'weight': torch.ones(2)}).missing == ['table']


def test_empty_arrays_load(tmp_path):
    """The keypoints of mmpose's datasets contain empty arrays."""
    file = tmp_path / 'epoch_1.pth'
    torch.save({'meta': np.empty((0, 2)), 'state_dict': {'weight': torch.ones(1)}}, file)
    assert read_checkpoint(str(file))['meta'].shape == (0, 2)
