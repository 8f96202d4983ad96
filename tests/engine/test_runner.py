import re

import pytest
import torch

from reprefine.engine.cli.launch import build_runner, load_config
from reprefine.engine.errors import UserError
from reprefine.engine.runner import Runner
from tests.helpers.run import DENOISED, DIGITS, SMALL, run_test, run_train, train_digits


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A finished run of two epochs."""
    work_dir = tmp_path_factory.mktemp('trained')
    assert train_digits(work_dir) == 0
    return work_dir / 'epoch_2.pth'


def edited(checkpoint, target, edit):
    content = torch.load(checkpoint, weights_only=True)
    edit(content)
    torch.save(content, target)
    return str(target)


def test_checkpoint_of_another_model_is_refused_with_the_share(trained, tmp_path, capsys):
    wider = ('--cfg-options', 'model.backbone.arch.embed_dims=32', 'model.head.in_channels=32')
    assert run_test(DIGITS, str(trained), '--work-dir', str(tmp_path), *SMALL, *wider) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert f'checkpoint {trained} belongs to another model: ' in error
    assert re.search(r'% of the model loaded: \d+ keys matched, \d+ size mismatch \(\S+ is \[', error)
    assert 'at least 100% needed' in error


def test_floor_is_a_key_of_the_config(trained, tmp_path):
    wider = ('--cfg-options', 'model.backbone.arch.embed_dims=32', 'model.head.in_channels=32', '+min_load_ratio=0.0')
    assert run_test(DIGITS, str(trained), '--work-dir', str(tmp_path), *SMALL, *wider) == 0


def test_partial_match_above_the_floor_is_one_line_of_the_log(trained, tmp_path):
    partial = edited(trained, tmp_path / 'a.pth', lambda content: content['state_dict'].pop('backbone.cls_token'))
    start = ('--cfg-options', f'load_from={partial}', 'train_cfg.max_epochs=1')
    assert train_digits(tmp_path / 'run', *start) == 0
    log = next(tmp_path.glob('run/*/*.log')).read_text()
    assert f'Load checkpoint from {partial}: 99.' in log
    assert ' keys matched, 1 missing (backbone.cls_token)\n' in log


def test_a_refinement_is_judged_by_its_baseline_alone(trained, tmp_path):
    options = (*SMALL[1:], f'load_from={trained}', 'train_cfg.max_epochs=1')
    assert run_train(DENOISED, '--work-dir', str(tmp_path), '--cfg-options', *options) == 0
    log = next(tmp_path.glob('*/*.log')).read_text()
    assert re.search(f'Load checkpoint from {trained}: 100.0% of the model loaded: \\d+ keys matched\n', log)
    # Testing the refined config with the baseline's file would use random predictors.
    assert run_test(DENOISED, str(trained), '--work-dir', str(tmp_path), '--cfg-options', *options) == 1


def test_resume_does_not_run_the_config_of_the_checkpoint(trained, tmp_path):
    folder = tmp_path / 'created'
    text = f'import os\nos.mkdir({str(folder)!r})\n'
    edit = lambda content: content['meta'].update(config=text, cfg=text, epoch=1, iter=2)  # noqa: E731
    checkpoint = edited(trained, tmp_path / 'a.pth', edit)
    assert train_digits(tmp_path / 'run', '--resume', checkpoint) == 0
    assert (tmp_path / 'run' / 'epoch_2.pth').exists()
    assert not (tmp_path / 'run' / 'epoch_1.pth').exists()
    assert not folder.exists()


def test_resume_needs_a_training_state(trained, tmp_path, capsys):
    weights = edited(trained, tmp_path / 'a.pth', lambda content: content.pop('optimizer'))
    assert train_digits(tmp_path / 'run', '--resume', weights) == 1
    assert 'holds no training state' in capsys.readouterr().err


def test_resume_needs_the_whole_model(trained, tmp_path, capsys):
    partial = edited(trained, tmp_path / 'a.pth', lambda content: content['state_dict'].pop('backbone.cls_token'))
    assert train_digits(tmp_path / 'run', '--resume', partial) == 1
    assert '1 missing (backbone.cls_token); at least 100% needed' in capsys.readouterr().err


def test_load_from_starts_a_new_run(trained, tmp_path):
    options = ('--cfg-options', f'load_from={trained}', 'train_cfg.max_epochs=1', 'optim_wrapper.optimizer.lr=0.0')
    assert train_digits(tmp_path, *options) == 0
    before, after = (torch.load(path, weights_only=True) for path in (trained, tmp_path / 'epoch_1.pth'))
    assert after['meta']['epoch'] == 1
    for key, value in before['state_dict'].items():
        assert torch.equal(after['state_dict'][key], value)


def test_a_collate_function_of_an_inherited_config_gets_no_scope():
    loader = Runner.build_dataloader(
        dict(
            batch_size=2,
            dataset=torch.utils.data.TensorDataset(torch.arange(4)),
            sampler=torch.utils.data.SequentialSampler(range(4)),
            collate_fn=dict(type='default_collate', _scope_='mmpretrain'),
        )
    )
    assert [batch[0].tolist() for batch in loader] == [[0, 1], [2, 3]]


def test_a_cell_that_trains_is_run_twice(tmp_path):
    cfg = load_config(DIGITS)
    cfg.merge_from_dict({'train_cfg.max_epochs': 1, 'work_dir': str(tmp_path), 'experiment_name': tmp_path.name})
    cfg.merge_from_dict({f'{part}_dataloader.dataset.indices': 32 for part in ('train', 'val', 'test')})
    cfg.merge_from_dict({'model.backbone.arch.num_layers': 1, 'visualizer.name': tmp_path.name})
    build_runner(cfg.copy()).train()
    before = (tmp_path / 'epoch_1.pth').read_bytes()
    with pytest.raises(UserError, match=rf'{tmp_path} already holds checkpoints of a run: .*resume=True'):
        build_runner(cfg.copy()).train()
    assert (tmp_path / 'epoch_1.pth').read_bytes() == before
