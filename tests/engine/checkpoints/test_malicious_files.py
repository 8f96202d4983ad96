"""Malicious files: every reader refuses them with one line, and nothing in them is executed."""

import json
import pickle
import struct
from collections import OrderedDict

import mmengine
import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.infer.infer import BaseInferencer
from mmengine.model import BaseModule
from mmengine.runner import CheckpointLoader, load_checkpoint
from safetensors.torch import save_file
from torch import nn

from reprefine.engine.checkpoints.checkpoint import load_from_local, read_checkpoint, without_config
from reprefine.engine.errors import UserError
from reprefine.set_up import force_weights_only_loading
from tests.helpers.malicious import CONTENTS, FORMS, Calls, config_text, system, write_malicious


@pytest.fixture
def created(tmp_path):
    """The folder that malicious files create."""
    folder = tmp_path / 'created'
    yield folder
    assert not folder.exists()


def refusal(function, *args) -> str:
    with pytest.raises(UserError) as caught:
        function(*args)
    assert '\n' not in str(caught.value)
    return str(caught.value)


def test_the_payloads_run_in_an_ordinary_unpickler(tmp_path):
    pickle.loads(pickle.dumps(system(tmp_path / 'created')))
    assert (tmp_path / 'created').is_dir()
    exec(config_text(tmp_path / 'by_config'))
    assert (tmp_path / 'by_config').is_dir()


@pytest.mark.parametrize('form', FORMS)
def test_every_form_is_refused(tmp_path, created, form):
    file = write_malicious(tmp_path / 'a.pth', dict(payload=system(created)), form)
    assert 'refused: it holds objects whose loading may run code (posix.system)' in refusal(read_checkpoint, file)


@pytest.mark.parametrize('content', CONTENTS.values(), ids=CONTENTS)
def test_every_content_is_refused_by_every_reader(tmp_path, created, content):
    file = write_malicious(tmp_path / 'a.pth', content(dict(state_dict=dict(w=torch.ones(1))), created))
    for read in (read_checkpoint, load_from_local, CheckpointLoader.load_checkpoint):
        assert 'a.pth refused: it holds objects whose loading may run code' in refusal(read, file)
    assert 'a.pth refused' in refusal(load_checkpoint, nn.Linear(1, 1), file)


@pytest.mark.parametrize('prefix', [None, 'part.'])
def test_a_module_that_starts_from_a_checkpoint(tmp_path, created, prefix):
    file = write_malicious(tmp_path / 'a.pth', dict(state_dict={}, payload=system(created)))
    start = dict(type='Pretrained', checkpoint=file) | (dict(prefix=prefix) if prefix else {})
    assert 'a.pth refused' in refusal(BaseModule(start).init_weights)


def test_host_libraries_get_no_config_from_a_checkpoint(tmp_path, created):
    text = config_text(created)
    hub = dict(runtime_info=dict(cfg=text, epoch=1), resumed_keys=dict(cfg=True, epoch=True))
    weights = OrderedDict(w=torch.ones(1))
    content = dict(state_dict=weights, meta=dict(cfg=text, config=text, epoch=1), message_hub=hub)
    file = tmp_path / 'a.pth'
    torch.save(content, file)
    read = CheckpointLoader.load_checkpoint(str(file))
    assert read['meta'] == dict(epoch=1)
    assert read['message_hub'] == dict(runtime_info=dict(epoch=1), resumed_keys=dict(epoch=True))
    assert content['meta']['cfg'] == text  # the given dict is not changed
    with pytest.raises(ValueError, match='Cannot find the config in the checkpoint'):
        BaseInferencer._init_model(None, ConfigDict(), str(file))


def test_versions_of_modules_are_kept(tmp_path):
    weights = nn.BatchNorm1d(2).state_dict()
    assert without_config(weights)._metadata == weights._metadata


def test_schemes_of_urls_drop_the_config_too(created, monkeypatch):
    monkeypatch.setattr(torch.hub, 'load_state_dict_from_url', lambda *_, **__: None)
    http = CheckpointLoader._get_checkpoint_loader('https://x.org/a.pth')
    monkeypatch.setitem(
        http.__wrapped__.__globals__, 'load_url', lambda *_, **__: dict(meta=dict(config=config_text(created), epoch=1))
    )
    assert CheckpointLoader.load_checkpoint('https://x.org/a.pth') == dict(meta=dict(epoch=1))


@pytest.mark.parametrize(
    'text', ['!!python/object/apply:os.mkdir [{}]', 'a: !!python/name:os.system', '[1, 2', '!!python/module:os']
)
@pytest.mark.parametrize('suffix', ['yml', 'yaml'])
def test_yaml_is_data(tmp_path, created, text, suffix):
    file = tmp_path / f'a.{suffix}'
    file.write_text(text.replace('{}', str(created)))
    for read in (mmengine.load, Config.fromfile):
        assert 'YAML file cannot be loaded' in refusal(read, str(file))


def test_yaml_that_mmengine_writes_is_read(tmp_path):
    data = dict(shape=(1, 2), names=['a'], rate=0.1, none=None)
    mmengine.dump(data, str(tmp_path / 'a.yaml'))
    assert mmengine.load(str(tmp_path / 'a.yaml')) == data


def test_an_explicit_loader_of_yaml_is_replaced(tmp_path, created):
    import yaml

    file = tmp_path / 'a.yaml'
    file.write_text(f'!!python/object/apply:os.mkdir [{created}]')
    with pytest.raises(UserError, match='YAML file cannot be loaded'):
        mmengine.load(str(file), Loader=yaml.UnsafeLoader)


def test_the_variable_against_weights_only_loading_is_unset(tmp_path, created, monkeypatch):
    file = write_malicious(tmp_path / 'a.pth', dict(payload=Calls(system, created)))
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    force_weights_only_loading()
    with pytest.raises(pickle.UnpicklingError):
        torch.load(file)


def safetensors_file(path, content=None, metadata=None):
    save_file(content or dict(w=torch.arange(6.0).view(2, 3)), path, metadata)
    return path


@pytest.mark.parametrize('keep', [0, 4, 8, 20, -1])
def test_a_truncated_safetensors_file_is_refused(tmp_path, keep):
    file = safetensors_file(tmp_path / 'a.safetensors')
    file.write_bytes(file.read_bytes()[:keep])
    assert 'a.safetensors cannot be read, it is truncated or damaged: ' in refusal(read_checkpoint, str(file))


@pytest.mark.parametrize('byte', [0, 7, 8, 9])
def test_a_flipped_bit_in_the_header_is_refused(tmp_path, byte):
    file = safetensors_file(tmp_path / 'a.safetensors')
    content = bytearray(file.read_bytes())
    content[byte] ^= 0x44
    file.write_bytes(content)
    assert 'a.safetensors cannot be read, it is truncated or damaged: ' in refusal(read_checkpoint, str(file))


def test_a_pickle_with_the_suffix_of_safetensors_is_refused(tmp_path, created):
    write_malicious(tmp_path / 'a.safetensors', dict(payload=system(created)))
    assert 'a.safetensors cannot be read' in refusal(read_checkpoint, str(tmp_path / 'a.safetensors'))


@pytest.mark.parametrize('meta', ['no json', '[1]', '[' * 100_000, '"text"'])
def test_metadata_of_other_libraries_is_ignored(tmp_path, meta):
    file = safetensors_file(tmp_path / 'a.safetensors', metadata=dict(meta=meta, config='x = 1'))
    assert read_checkpoint(str(file))['meta'] == {}


def test_metadata_that_is_no_string_is_refused(tmp_path):
    header = json.dumps(dict(__metadata__=dict(meta=dict(a=1)))).encode()
    (tmp_path / 'a.safetensors').write_bytes(struct.pack('<Q', len(header)) + header)
    assert 'a.safetensors cannot be read' in refusal(read_checkpoint, str(tmp_path / 'a.safetensors'))
