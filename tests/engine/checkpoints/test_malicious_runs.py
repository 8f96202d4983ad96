"""Malicious checkpoints given to the tools: exit code 1, one line, and nothing of them executed."""

import pytest
import torch

from tests.helpers.malicious import CONTENTS, FORMS, assert_refused, config_text, system, write_malicious
from tests.helpers.run import DENOISED, DIGITS, SMALL, run_test, run_train, train_digits
from tests.helpers.run_tool import run_tool


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A finished run of one epoch."""
    work_dir = tmp_path_factory.mktemp('trained')
    assert train_digits(work_dir, '--cfg-options', 'train_cfg.max_epochs=1') == 0
    return torch.load(work_dir / 'epoch_1.pth', weights_only=True)


@pytest.fixture
def created(tmp_path):
    """The folder that malicious files create."""
    folder = tmp_path / 'created'
    yield folder
    assert not folder.exists()


def with_payload(content, folder):
    return {**content, 'payload': system(folder)}


@pytest.mark.parametrize('content', ['state_dict', 'optimizer', 'message_hub', 'another getattr of the history'])
def test_resume(trained, tmp_path, created, capsys, content):
    file = write_malicious(tmp_path / 'a.pth', CONTENTS[content](trained, created))
    assert_refused(train_digits(tmp_path / 'run', '--resume', file), capsys.readouterr().err)


@pytest.mark.parametrize('form', FORMS)
def test_load_from_and_test(trained, tmp_path, created, capsys, form):
    file = write_malicious(tmp_path / 'a.pth', with_payload(trained, created), form)
    assert_refused(train_digits(tmp_path / 'run', '--cfg-options', f'load_from={file}'), capsys.readouterr().err)
    assert_refused(run_test(DIGITS, file, '--work-dir', str(tmp_path / 'run'), *SMALL), capsys.readouterr().err)


@pytest.mark.parametrize('prefix', [(), ('model.backbone.init_cfg.prefix=backbone.',)])
def test_init_cfg(trained, tmp_path, created, capsys, prefix):
    file = write_malicious(tmp_path / 'a.pth', with_payload(trained, created))
    start = ('+model.backbone.init_cfg.type=Pretrained', f'+model.backbone.init_cfg.checkpoint={file}')
    start += tuple(f'+{option}' for option in prefix)
    assert_refused(train_digits(tmp_path / 'run', '--cfg-options', *start), capsys.readouterr().err)


def test_config_texts_are_not_executed_on_any_way(trained, tmp_path, created):
    text = config_text(created)
    hub = trained['message_hub']
    meta = trained['meta'] | dict(config=text, cfg=text, epoch=0, iter=0)
    hub = hub | dict(runtime_info={**hub['runtime_info'], 'cfg': text})
    file = str(tmp_path / 'a.pth')
    torch.save({**trained, 'meta': meta, 'message_hub': hub}, file)
    assert run_test(DIGITS, file, '--work-dir', str(tmp_path / 'test'), *SMALL) == 0
    for index, how in enumerate((('--resume', file), ('--cfg-options', f'load_from={file}'))):
        last = how if how[0] == '--cfg-options' else (*how, '--cfg-options')
        work_dir = tmp_path / str(index)
        assert train_digits(work_dir, *last, 'train_cfg.max_epochs=1') == 0
        assert (work_dir / 'epoch_1.pth').is_file()
    start = ('load_from=None', '+model.backbone.init_cfg.type=Pretrained')
    start += (f'+model.backbone.init_cfg.checkpoint={file}', '+model.backbone.init_cfg.prefix=backbone.')
    options = (*SMALL, *start, 'train_cfg.max_epochs=1')
    assert run_train(DENOISED, '--work-dir', str(tmp_path / 'part'), *options) == 0
    assert run_tool('model_converters/publish_model.py', file, tmp_path / 'out.pth') == 0
