"""Weights in another entry of a file or with a prefix: selected by two options, which the error message suggests."""

import pytest
import torch
from torch import nn

from reprefine.engine.checkpoints.entries import select_weights, suggest_keys
from reprefine.engine.checkpoints.weights import load_weights
from reprefine.engine.errors import UserError


def model():
    return nn.ModuleDict(
        dict(backbone=nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)), head=nn.ModuleDict(dict(fc=nn.Linear(4, 2))))
    )


def state(prefix='', only='', drop=''):
    weights = model().state_dict().items()
    return {prefix + key.removeprefix(drop): value for key, value in weights if key.startswith(only)}


ENTRIES = ('model', 'model_state_dict', 'teacher', 'ema', 'state_dict_ema', 'student', 'a.b')
PREFIXES = ('', 'module.', '_orig_mod.', 'model.', 'student.', 'encoder_q.', 'module.student.model.')


def nested(path, weights):
    for name in reversed(path.split('.')):
        weights = {name: weights}
    return dict(weights, epoch=3, optimizer=dict(state={0: dict(step=torch.tensor(1.0))}, param_groups=[]))


@pytest.mark.parametrize('entry', ENTRIES)
@pytest.mark.parametrize('prefix', PREFIXES)
def test_the_suggested_options_load_everything(entry, prefix):
    source = state(prefix)
    file, target = nested(entry, source), model()
    hint = suggest_keys(file, target, load_weights(target, file).ratio)
    pattern = prefix.replace('.', r'\.')
    renaming = f" --revise-keys '^{pattern}='" if prefix else ''
    assert f'matches 9 of 9 keys: give --checkpoint-key {entry}{renaming} (in a config checkpoint_key=' in hint
    selected = select_weights(file, 'a.pth', entry, [(f'^{pattern}', '')])
    assert load_weights(target, selected).exact
    assert torch.equal(target['head']['fc'].weight, source[f'{prefix}head.fc.weight'])


def test_a_prefix_can_be_missing_or_another_one():
    file = dict(state_dict=state('encoder_q.', only='backbone.', drop='backbone.'))
    hint = suggest_keys(file, model(), 0.0)
    assert "it with 'encoder_q.' removed from and 'backbone.' added to the names matches 7 of 9 keys: give " in hint
    assert (
        r"give --revise-keys '^encoder_q\.=backbone.' (in a config revise_keys=[(r'^encoder_q\.', 'backbone.')])"
        in hint
    )
    assert "'^=backbone.'" in suggest_keys(state(only='backbone.', drop='backbone.'), model(), 0.0)


def test_nothing_is_suggested_if_nothing_matches_better():
    assert suggest_keys(dict(teacher=dict(weight=torch.zeros(5))), model(), 0.0) == ''
    assert suggest_keys(dict(state_dict=state()), model(), 1.0) == ''


def test_the_best_entry_is_suggested_and_keys_of_other_shapes_do_not_match():
    wide = {key: torch.zeros(8, *value.shape) for key, value in state().items()}
    assert "its entry 'ema'" in suggest_keys(dict(state_dict=wide, ema=state(), small=state(only='head')), model(), 0.0)


def test_without_options_a_checkpoint_is_not_changed():
    file = dict(state_dict=state())
    assert select_weights(file, 'a.pth') is file


def test_the_rest_of_the_file_goes_along():
    assert select_weights(dict(ema=state(), meta=dict(epoch=1)), 'a.pth', 'ema')['meta'] == dict(epoch=1)
    assert select_weights(state('x.'), 'a.pth', revise_keys=[(r'^x\.', '')]).keys() == {'state_dict'}


def test_what_cannot_be_chosen_is_refused():
    with pytest.raises(UserError, match="a.pth has no weights under the key 'ema'; it has model, a.b$"):
        select_weights(dict(model=state(), a=dict(b=state()), ema=3), 'a.pth', 'ema')
    with pytest.raises(UserError, match=r'a.pth: two weights get the key weight \(one of them is backbone.1.weight\)'):
        select_weights(state(), 'a.pth', revise_keys=[(r'^.*\.', '')])
    with pytest.raises(UserError, match='is no regular expression'):
        select_weights(state(), 'a.pth', revise_keys=[('(', '')])
