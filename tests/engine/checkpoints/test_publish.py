"""Published files have the weights bit for bit, and nothing private of the run."""

import collections
import json
import struct

import numpy as np
import pytest
import torch
from torch import nn

from reprefine.engine.checkpoints.checkpoint import read_checkpoint
from reprefine.engine.checkpoints.integrity import sha256
from reprefine.engine.checkpoints.publish import clean_meta, copy_tensors, publish
from reprefine.engine.checkpoints.weights import load_weights
from reprefine.engine.errors import UserError
from tests.helpers.run import assert_equal

SUFFIXES = ('.pth', '.safetensors')
SECRETS = ('anna', 'lab-machine', '/data/anna', 'secret_experiment', '4x A100')


class Tied(nn.Module):
    """Weights of several types and shapes, tied weights, and a view of a larger tensor."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(3)
        self.first = nn.Linear(3, 5)
        self.second = nn.Linear(3, 5)
        self.second.weight = self.first.weight
        self.register_buffer('view', torch.arange(1000)[10:13])
        self.register_buffer('transposed', torch.randn(4, 2).t())
        self.register_buffer('low_precision', torch.tensor([float('nan'), -0.0, 1e-8]).bfloat16())
        self.register_buffer('empty', torch.zeros(0, 2))
        self.register_buffer('scalar', torch.tensor(True))


@pytest.fixture
def run(tmp_path):
    """A checkpoint of a run with a moving average and private data."""
    torch.manual_seed(0)
    meta = dict(
        cfg="data_root = '/data/anna'\n",
        config='work_dir = 1',
        experiment_name='secret_experiment',
        env_info=dict(GPU='4x A100'),
        hook_msgs=dict(best='/data/anna/best.pth'),
        time='20260101_000000',
        user='anna',
        mmengine_version='0.10.7',
        seed=7,
        epoch=np.int64(3),
        iter=12,
        deployed_layers=2,
        dataset_meta=dict(
            classes=('cat', 'dog'), sigmas=np.array([0.5, 0.25]), from_file='/data/anna/coco.py', host='x'
        ),
    )
    model = Tied()
    content = dict(
        meta=meta,
        state_dict=model.state_dict(),
        ema_state_dict={'module.w': torch.zeros(1)},
        optimizer=dict(state={}),
        message_hub=dict(runtime_info=dict(cfg='lab-machine')),
        param_schedulers=[],
    )
    torch.save(content, tmp_path / 'epoch_3.pth')
    return tmp_path / 'epoch_3.pth', model


@pytest.mark.parametrize('suffix', SUFFIXES)
def test_weights_are_equal_bit_for_bit_and_load_into_the_model(run, tmp_path, suffix):
    source, model = run
    done = publish(source, tmp_path / f'model{suffix}')
    assert done.averaged
    state, other = read_checkpoint(str(done.file))['state_dict'], Tied()
    assert state.keys() == model.state_dict().keys()
    assert state._metadata == model.state_dict()._metadata
    for key, value in model.state_dict().items():
        assert (state[key].dtype, state[key].shape) == (value.dtype, value.shape)
        assert state[key].contiguous().view(-1).view(torch.uint8).tolist() == (
            value.contiguous().view(-1).view(torch.uint8).tolist()
        )
    match = load_weights(other, read_checkpoint(str(done.file)))
    assert match.exact
    assert match.matched == done.tensors == len(model.state_dict())
    assert torch.equal(other.transposed, model.transposed)


@pytest.mark.parametrize('suffix', SUFFIXES)
def test_the_name_ends_in_the_checksum_which_depends_only_on_the_content(run, tmp_path, suffix):
    source, _ = run
    first = publish(source, tmp_path / 'a' / f'model{suffix}').file
    second = publish(source, tmp_path / 'b' / f'other{suffix}').file
    assert first.name == f'model-{sha256(first)[:8]}{suffix}'
    assert first.read_bytes() == second.read_bytes()
    assert publish(source, tmp_path / 'a' / f'model{suffix}').file == first  # the same file again
    assert [path.name for path in (tmp_path / 'a').iterdir()] == [first.name]
    assert first.stat().st_mode & 0o777 == source.stat().st_mode & 0o777


@pytest.mark.parametrize('suffix', SUFFIXES)
def test_nothing_private_is_in_the_file(run, tmp_path, suffix):
    source, _ = run
    assert all(secret.encode() in source.read_bytes() for secret in SECRETS)
    done = publish(source, tmp_path / f'model{suffix}')
    assert not [secret for secret in (*SECRETS, 'epoch_3', str(tmp_path)) if secret.encode() in done.file.read_bytes()]
    meta = read_checkpoint(str(done.file))['meta']
    classes = ('cat', 'dog') if suffix == '.pth' else ['cat', 'dog']
    expected = dict(mmengine_version='0.10.7', seed=7, epoch=3, iter=12, deployed_layers=2)
    assert meta == expected | dict(dataset_meta=dict(classes=classes, sigmas=[0.5, 0.25]))
    assert done.kept_meta == sorted(meta)
    assert done.dropped_meta == ['cfg', 'config', 'env_info', 'experiment_name', 'hook_msgs', 'time', 'user']


def test_a_pth_needs_no_allow_list(run, tmp_path):
    done = publish(run[0], tmp_path / 'model.pth')
    allowed = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    try:
        assert torch.load(done.file, weights_only=True).keys() == {'meta', 'state_dict'}
    finally:
        torch.serialization.add_safe_globals(allowed)


def test_safetensors_metadata_are_strings(run, tmp_path):
    content = publish(run[0], tmp_path / 'model.safetensors').file.read_bytes()
    (length,) = struct.unpack_from('<Q', content)
    metadata = json.loads(content[8 : 8 + length])['__metadata__']
    assert list(metadata) == ['format', 'meta', 'versions']
    assert all(isinstance(value, str) for value in metadata.values())


def test_both_formats_convert_to_each_other(run, tmp_path):
    first = publish(run[0], tmp_path / 'a.safetensors').file
    back = publish(first, tmp_path / 'b.pth').file
    again = publish(back, tmp_path / 'c.safetensors').file
    assert first.read_bytes() == again.read_bytes()


def test_tied_weights_are_written_once_in_a_pth_and_twice_in_safetensors():
    state = Tied().state_dict()
    for shared in (True, False):
        own = copy_tensors(state, shared)
        one = own['first.weight'].data_ptr() == own['second.weight'].data_ptr()
        assert one is shared
        assert own['view'].untyped_storage().nbytes() == 3 * 8  # not the 1000 of its base
        assert own['transposed'].is_contiguous()


def test_other_views_of_one_storage_keep_their_values():
    weight = torch.arange(4, dtype=torch.float32).view(2, 2)
    views = dict(a=weight, transposed=weight.t(), bits=weight.view(torch.int32))
    own = copy_tensors(views, shared=True)
    assert all(torch.equal(own[name], view) and own[name].dtype == view.dtype for name, view in views.items())


def test_another_entry_is_not_the_average(run, tmp_path):
    source, _ = run
    done = publish(source, tmp_path / 'model.pth', checkpoint_key='ema_state_dict', revise_keys=[(r'^module\.', '')])
    assert not done.averaged
    assert read_checkpoint(str(done.file))['state_dict'].keys() == {'w'}


def test_kept_meta_is_plain_data():
    strange = dict(
        a=object(), b=[object(), 1], c=collections.OrderedDict(x=np.float32(0.5)), d=None, e='text', f={'/x'}
    )
    assert clean_meta(strange) == dict(b=[1], c=dict(x=0.5), d=None)
    for path in ('/data/x', '~/x', 'C:\\x', 'C:/x', '\\\\server\\x', 'file:///x', 'a = 1\nb = 2'):
        assert clean_meta(dict(dataset_meta=dict(path=path, name='a/b'))) == dict(dataset_meta=dict(name='a/b'))


def test_save_keys(run, tmp_path):
    done = publish(run[0], tmp_path / 'a.pth', ('state_dict', 'ema_state_dict'))
    content = torch.load(done.file, weights_only=True)
    assert content.keys() == {'meta', 'state_dict', 'ema_state_dict'}
    assert content['meta'] == {}
    assert_equal(content['ema_state_dict'], {'module.w': torch.zeros(1)})


@pytest.mark.parametrize('suffix', SUFFIXES)
def test_a_bare_state_dict(tmp_path, suffix):
    torch.save(dict(w=torch.ones(2)), tmp_path / 'bare.pth')
    done = publish(tmp_path / 'bare.pth', tmp_path / f'a{suffix}')
    assert not done.averaged
    assert_equal(dict(read_checkpoint(str(done.file))['state_dict']), dict(w=torch.ones(2)))


def refusal(*args) -> str:
    with pytest.raises(UserError) as caught:
        publish(*args)
    assert '\n' not in str(caught.value)
    return str(caught.value)


def test_bad_input_is_one_line_and_leaves_nothing(run, tmp_path):
    source, out = run[0], tmp_path / 'out'
    out.mkdir()
    assert "the suffix is '.bin'; it must be .pth, .pt or .safetensors" in refusal(source, out / 'a.bin')
    assert '--save-keys without state_dict' in refusal(source, out / 'a.pth', ['meta'])
    assert 'holds weights only, not optimizer' in refusal(source, out / 'a.safetensors', ['state_dict', 'optimizer'])
    assert f'{source} holds no weihgts; it holds meta, state_dict, ' in refusal(
        source, out / 'a.pth', ['state_dict', 'weihgts']
    )
    assert 'none.pth does not exist' in refusal(tmp_path / 'none.pth', out / 'a.pth')
    (tmp_path / 'file').write_text('')
    assert 'cannot be written' in refusal(source, tmp_path / 'file' / 'a.pth')
    torch.save(dict(meta={}, state_dict={}), tmp_path / 'empty.pth')
    assert 'holds no weights' in refusal(tmp_path / 'empty.pth', out / 'a.pth')
    torch.save(dict(meta={}, epoch=1), tmp_path / 'other.pth')
    assert 'holds no state_dict; it holds meta, epoch' in refusal(tmp_path / 'other.pth', out / 'a.pth')
    torch.save(dict(state_dict=dict(w=torch.ones(1), extra='x')), tmp_path / 'extra.pth')
    assert 'extra is no tensor' in refusal(tmp_path / 'extra.pth', out / 'a.safetensors')
    assert not list(out.iterdir())


@pytest.mark.parametrize('suffix', SUFFIXES)
def test_another_file_of_that_name_is_kept(run, tmp_path, suffix):
    file = publish(run[0], tmp_path / f'a{suffix}').file
    file.write_text('precious')
    assert f'{file} exists with other content' in refusal(run[0], tmp_path / f'a{suffix}')
    assert file.read_text() == 'precious'
    assert not list(tmp_path.glob('.a*'))
