"""Loading of weights, and weights that are refused."""

import pytest
import torch
from torch import nn

from reprefine.engine.checkpoints.checkpoint import read_checkpoint
from reprefine.engine.checkpoints.entries import select_weights
from reprefine.engine.checkpoints.safetensor_files import write_safetensors
from reprefine.engine.checkpoints.weights import KeyMatch, check_finite, check_match, load_weights
from reprefine.engine.errors import UserError


def test_parameters_that_are_not_finite_are_refused_but_masks_are_not():
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    model.register_buffer('mask', torch.tensor([0.0, float('-inf')]))
    check_finite(model, 'a.pth')
    for value in ('nan', 'inf'):
        with torch.no_grad():
            model[0].bias[1] = float(value)
        with pytest.raises(UserError, match='a.pth holds weights that are not finite: 0.bias$'):
            check_finite(model, 'a.pth')


def test_complex_weights_are_not_loaded_into_real_parameters():
    model = nn.Linear(2, 3)
    before = model.weight.clone()
    complex_weights = {name: value * 1j for name, value in model.state_dict().items()}
    match = load_weights(model, complex_weights)
    assert (match.ratio, sorted(match.missing)) == (0, ['bias', 'weight'])
    assert torch.equal(model.weight, before)
    model = nn.Linear(2, 3, dtype=torch.complex64)
    assert load_weights(model, complex_weights).ratio == 1
    assert torch.equal(model.weight, complex_weights['weight'])


class Renaming(nn.Module):
    """A wrapper whose keys in checkpoints are those of the wrapped network, as in methods and host libraries."""

    def __init__(self, network):
        super().__init__()
        self.model = network
        self.register_state_dict_post_hook(self._remove_prefix)
        self.register_load_state_dict_pre_hook(self._add_prefix)

    @staticmethod
    def _remove_prefix(_, state, prefix, *__):
        for key in [key for key in state if key.startswith(f'{prefix}model.')]:
            state[prefix + key.removeprefix(f'{prefix}model.')] = state.pop(key)

    @staticmethod
    def _add_prefix(_, state, prefix, *__):
        for key in [key for key in state if key.startswith(prefix)]:
            state[f'{prefix}model.{key.removeprefix(prefix)}'] = state.pop(key)


def net():
    return nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


@pytest.mark.parametrize('prefix', ['', 'inner.'])
def test_keys_that_a_load_hook_renames_are_not_loaded(prefix):
    """The file has the names of the parameters, to which the load hook adds the prefix once more."""
    model = Renaming(net()) if not prefix else nn.ModuleDict(dict(inner=Renaming(net())))
    before = {name: value.clone() for name, value in model.named_parameters()}
    state = {name: torch.ones_like(value) for name, value in (*model.named_parameters(), *model.named_buffers())}
    match = load_weights(model, state)
    assert (match.ratio, match.matched, len(match.unexpected)) == (0, 0, 9)
    assert len(match.missing) == 8  # including the buffers, except the counter
    assert all(torch.equal(before[name], value) for name, value in model.named_parameters())
    with pytest.raises(UserError, match=r"0.0% of the model loaded: 0 keys .* --revise-keys '\^(inner\\.)?model\\.="):
        check_match(match, 'a.pth', 0.1, model, state)
    assert load_weights(model, Renaming(net()).state_dict() if not prefix else {}).ratio == (not prefix)


def test_keys_that_a_module_excuses_do_not_count_as_loaded():
    """The teacher of a distiller is in no checkpoint; without the student nothing is loaded."""
    model = nn.ModuleDict(dict(teacher=net(), student=net()))
    model.register_load_state_dict_post_hook(
        lambda _, keys: keys.missing_keys.__setitem__(
            slice(None), [key for key in keys.missing_keys if key.startswith('student')]
        )
    )
    assert load_weights(model, {'other': torch.zeros(1)}).ratio == 0
    student = {f'student.{key}': value for key, value in net().state_dict().items()}
    assert load_weights(model, student).ratio == 1
    del student['student.0.weight']
    assert load_weights(model, student).ratio == pytest.approx(1 - 16 / 46)


def test_a_tied_weight_is_loaded_by_either_name():
    model = nn.ModuleDict(dict(encoder=nn.Linear(3, 3), decoder=nn.Linear(3, 3)))
    model.decoder.weight = model.encoder.weight
    state = {name: torch.ones_like(value) for name, value in model.state_dict().items() if name != 'decoder.weight'}
    match = load_weights(model, state)
    assert match.exact
    assert match.ratio == 1


def test_weights_written_to_data_count():
    class Writes(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(3))

        def _load_from_state_dict(self, state_dict, prefix, *_):
            self.weight.data.copy_(state_dict[f'{prefix}weight'])

    assert load_weights(Writes(), {'weight': torch.ones(3)}).ratio == 1


def test_a_model_without_tensors_is_fully_loaded():
    assert load_weights(nn.ReLU(), {}).ratio == 1
    assert load_weights(nn.Linear(1, 1), {}).ratio == 0


def test_another_error_besides_a_size_mismatch_is_raised():
    class Refuses(nn.Linear):
        def _load_from_state_dict(self, state_dict, prefix, metadata, strict, missing, unexpected, errors):
            errors.append('the bias is of another kind')

    model = nn.Sequential(nn.Linear(2, 2), Refuses(2, 2))
    with pytest.raises(RuntimeError, match='of another kind'):
        load_weights(model, {'0.weight': torch.zeros(3, 3)})


def test_nearly_all_is_not_shown_as_100_percent():
    model = nn.Linear(100, 100)
    match = load_weights(model, {'weight': torch.zeros(100, 100), 'bias': torch.zeros(1)})
    assert match.ratio == pytest.approx(1 - 100 / 10100)
    tiny = KeyMatch(1 - 1e-6, 1, [], {'bias': ([1], [2])}, [])
    assert str(tiny) == '99.9% of the model loaded: 1 keys matched, 1 size mismatch (bias is [1] instead of [2])'


class Table(nn.Module):
    """A position table that is resampled to the model's own length, as in vision transformers."""

    def __init__(self, length):
        super().__init__()
        self.pos_embed = nn.Parameter(torch.zeros(1, length, 2))
        self._register_load_state_dict_pre_hook(self._resample)

    def _resample(self, state, prefix, *_):
        table = state[f'{prefix}pos_embed'].transpose(1, 2)
        state[f'{prefix}pos_embed'] = nn.functional.interpolate(table, self.pos_embed.shape[1]).transpose(1, 2)


@pytest.mark.parametrize('wrap', [nn.Identity, Renaming, lambda model: nn.ModuleDict(dict(model=model))])
def test_a_resampled_table_is_named_and_a_smaller_one_is_refused_where_a_full_match_is_required(wrap):
    def model(length):
        return Table(length) if wrap is nn.Identity else wrap(Table(length))

    small, large = model(4), model(16)
    grown, shrunk = load_weights(large, small.state_dict()), load_weights(small, model(16).state_dict())
    assert '1 resized (' in str(grown)
    assert 'pos_embed is [1, 4, 2] instead of [1, 16, 2])' in str(grown)
    assert not grown.exact
    check_match(grown, 'a.pth', 1.0)
    check_match(shrunk, 'a.pth', 0.99)
    with pytest.raises(UserError, match=r'a.pth: \S*pos_embed is \[1, 16, 2\], .* to \[1, 4, 2\], .* img_size'):
        check_match(shrunk, 'a.pth', 1.0)
    assert load_weights(model(4), model(4).state_dict()).exact


class WithExtraState(nn.Linear):
    """Saves a setting as extra state and refuses another one."""

    def __init__(self, steps):
        super().__init__(2, 2)
        self.steps = steps

    def get_extra_state(self):
        return dict(steps=self.steps)

    def set_extra_state(self, state):
        if state['steps'] != self.steps:
            raise UserError(f'trained with {state["steps"]} steps, the config has {self.steps}')


def test_extra_states_of_modules_are_loaded(tmp_path):
    torch.save(dict(state_dict=nn.Sequential(WithExtraState(10)).state_dict()), tmp_path / 'a.pth')
    content = read_checkpoint(str(tmp_path / 'a.pth'))
    assert load_weights(nn.Sequential(WithExtraState(10)), content).exact
    renamed = select_weights(content, 'a.pth', revise_keys=[(r'^0\.', 'layer.')])
    assert load_weights(nn.ModuleDict(dict(layer=WithExtraState(10))), renamed).exact
    with pytest.raises(UserError, match='trained with 10 steps, the config has 20'):
        load_weights(nn.Sequential(WithExtraState(20)), content)


class Versioned(nn.Linear):
    """Halves the weights of files of its first version."""

    _version = 2

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, *args):
        if local_metadata.get('version', 1) < 2:
            state_dict[f'{prefix}weight'] = state_dict[f'{prefix}weight'] / 2
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args)


@pytest.mark.parametrize('kind', ['a.pth', 'a.safetensors', 'entry of a.pth'])
def test_modules_see_their_version_in_the_file(kind, tmp_path):
    source, target = nn.Sequential(Versioned(2, 2)), nn.Sequential(Versioned(2, 2))
    key = 'ema' if kind.startswith('entry') else None
    file = str(tmp_path / kind.split()[-1])
    if file.endswith('pth'):
        torch.save({key or 'state_dict': source.state_dict()}, file)
    else:
        write_safetensors(source.state_dict(), {}, file)
    load_weights(target, select_weights(read_checkpoint(file), file, key))
    assert torch.equal(target[0].weight, source[0].weight)
    load_weights(target, dict(source.state_dict()))  # without versions
    assert torch.equal(target[0].weight, source[0].weight / 2)
