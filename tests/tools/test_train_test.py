import json
import multiprocessing
import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from tests.helpers.run import DENOISED, DIGITS, ROOT, SMALL, run_test, run_train, start, train_digits


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('trained')
    assert train_digits(work_dir, '--cfg-options', 'randomness.seed=7') == 0
    return work_dir


def test_training_leaves_checkpoints_and_the_config(trained):
    assert (trained / 'last_checkpoint').read_text() == str(trained / 'epoch_2.pth')
    checkpoint = torch.load(trained / 'epoch_2.pth', weights_only=True)
    assert checkpoint['meta']['epoch'] == 2
    assert checkpoint['meta']['seed'] == 7
    assert (trained / 'vit-tiny_digits.py').exists()


def test_second_run_into_the_same_folder_is_refused(trained, capsys):
    before = {path: path.stat().st_mtime_ns for path in trained.rglob('*')}
    assert train_digits(trained) == 1
    error = capsys.readouterr().err.strip()
    assert error.count('\n') == 0
    assert f'work dir {trained} already holds checkpoints' in error
    assert '--resume' in error
    assert '--work-dir' in error
    assert {path: path.stat().st_mtime_ns for path in trained.rglob('*')} == before


def test_a_missing_checkpoint_to_resume_from_is_told_as_such(tmp_path, capsys):
    assert train_digits(tmp_path, '--resume', 'nothere.pth') == 1
    error = capsys.readouterr().err
    assert 'checkpoint nothere.pth does not exist (--resume): name another, or none' in error
    assert 'load_from' not in error  # which would start another run


def test_resume_without_value_continues_from_the_last_checkpoint(tmp_path):
    assert train_digits(tmp_path, '--cfg-options', 'train_cfg.max_epochs=1') == 0
    assert train_digits(tmp_path, '--resume') == 0
    assert torch.load(tmp_path / 'epoch_2.pth', weights_only=True)['meta']['iter'] == 4
    assert len(list(tmp_path.glob('2*'))) >= 1


def test_resume_without_anything_to_resume_starts_the_run_from_load_from(trained, tmp_path):
    options = ('--cfg-options', f'load_from={trained}/epoch_2.pth', 'optim_wrapper.optimizer.lr=0.0')
    assert train_digits(tmp_path, '--resume', *options) == 0
    source, target = (torch.load(path / 'epoch_2.pth', weights_only=True) for path in (trained, tmp_path))
    assert torch.equal(source['state_dict']['backbone.cls_token'], target['state_dict']['backbone.cls_token'])


def test_resume_from_a_checkpoint_that_is_gone(tmp_path, capsys):
    (tmp_path / 'last_checkpoint').write_text(f'{tmp_path}/epoch_9.pth')
    assert train_digits(tmp_path, '--resume') == 1
    error = capsys.readouterr().err
    assert f'no checkpoint to resume from: {tmp_path}/epoch_9.pth: it does not exist' in error
    assert error.strip().count('\n') == 0


def test_resume_passes_over_a_damaged_checkpoint_and_says_so(tmp_path, capsys):
    assert train_digits(tmp_path) == 0
    whole, damaged = (tmp_path / f'epoch_{epoch}.pth' for epoch in (1, 2))
    assert whole.is_file()
    damaged.write_bytes(damaged.read_bytes()[:1000])
    capsys.readouterr()
    assert train_digits(tmp_path, '--resume') == 0
    assert f'not resumed from {damaged}: its checksum differs from that in its .sha256 file' in capsys.readouterr().err
    assert torch.load(damaged, weights_only=True)['meta']['epoch'] == 2  # trained again


def test_a_missing_start_names_the_config_that_trains_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    missing = 'load_from=work_dirs/baselines/classification/vit-tiny_digits/none.pth'
    assert run_train(DENOISED, '--work-dir', str(tmp_path), '--cfg-options', missing) == 1
    error = capsys.readouterr().err
    assert 'none.pth does not exist' in error
    assert 'train it with tools/train.py configs/baselines/classification/vit-tiny_digits.py, or name another' in error


def test_a_missing_import_names_the_command_that_makes_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)  # where no checkpoints/ is
    config = f'{ROOT}/configs/baselines/reid/vit-small_120e_market1501-256x128.py'
    assert run_train(config, '--work-dir', str(tmp_path / 'run')) == 1
    error = capsys.readouterr().err
    made = 'checkpoints/vit-small_luperson.pth'
    command = f'python tools/model_converters/import_transreid_ssl.py vit_small_cfs_lup.pth {made}'
    assert f'checkpoint {made} does not exist (load_from): make it with {command}, or name another' in error
    assert error.rstrip().endswith('or load_from=None for random weights')
    assert not (tmp_path / 'run').exists()


def test_no_validate_and_auto_scale_lr(tmp_path):
    options = ('--cfg-options', 'train_dataloader.batch_size=16', 'param_scheduler=None')
    assert train_digits(tmp_path, '--no-validate', '--auto-scale-lr', *options) == 0
    log = next(tmp_path.glob('*/*.log')).read_text()
    assert 'Epoch(val)' not in log
    checkpoint = torch.load(tmp_path / 'epoch_2.pth', weights_only=True)
    assert checkpoint['optimizer']['param_groups'][0]['lr'] == pytest.approx(1e-3)


@pytest.mark.parametrize('flags', [['--amp'], []], ids=['flag', 'config'])
def test_amp_without_a_gpu_trains_in_bfloat16(tmp_path, monkeypatch, capsys, flags):
    """Options of mmengine's GPU wrapper in the config do not matter; the weights stay float32."""
    monkeypatch.setattr('torch.cuda.is_available', lambda: False)
    products = set()
    linear = torch.nn.functional.linear
    monkeypatch.setattr('torch.nn.functional.linear', lambda *args: products.add((y := linear(*args)).dtype) or y)
    options = ('optim_wrapper.type=AmpOptimWrapper', 'optim_wrapper.loss_scale=dynamic', 'train_cfg.max_epochs=1')
    assert train_digits(tmp_path, *flags, '--no-validate', '--cfg-options', *options) == 0
    assert 'there is no GPU, autocast to bfloat16 on the CPU' in capsys.readouterr().out
    assert products == {torch.bfloat16}
    state_dict = torch.load(tmp_path / 'epoch_1.pth', weights_only=True)['state_dict']
    assert all(value.dtype == torch.float32 and value.isfinite().all() for value in state_dict.values())


def digits_test(trained, *argv):
    return run_test(DIGITS, str(trained / 'epoch_2.pth'), '--work-dir', str(trained / 'test'), *SMALL, *argv)


def test_outputs_agree_and_are_complete_files(trained, tmp_path):
    out, dump, images = tmp_path / 'a' / 'm.json', tmp_path / 'p.pkl', tmp_path / 'images'
    argv = ('--out', str(out), '--dump', str(dump), '--show-dir', str(images), '--interval', '16')
    assert digits_test(trained, *argv) == 0
    predictions = pickle.loads(dump.read_bytes())
    correct = [int(item['pred_label']) == int(item['gt_label']) for item in predictions]
    assert len(correct) == 32
    assert json.loads(out.read_text())['accuracy/top1'] == pytest.approx(100 * np.mean(correct))
    assert sorted(path.name for path in images.iterdir()) == ['0_0.png', '16_0.png']
    assert sorted(path.name for path in tmp_path.rglob('*') if path.is_file() and 'p' not in path.suffix) == ['m.json']


def test_out_pkl_holds_predictions_unless_metrics_are_asked_for(trained, tmp_path):
    assert digits_test(trained, '--out', str(tmp_path / 'p.pkl')) == 0
    assert digits_test(trained, '--out', str(tmp_path / 'm.pkl'), '--out-item', 'metrics') == 0
    assert len(pickle.loads((tmp_path / 'p.pkl').read_bytes())) == 32
    assert list(pickle.loads((tmp_path / 'm.pkl').read_bytes())) == ['accuracy/top1']


def test_a_failed_test_leaves_the_old_output_file(trained, tmp_path):
    out = tmp_path / 'p.pkl'
    out.write_text('old')
    (tmp_path / 'cut.pth').write_bytes((trained / 'epoch_2.pth').read_bytes()[:1000])
    assert run_test(DIGITS, str(tmp_path / 'cut.pth'), '--work-dir', str(tmp_path), '--dump', str(out)) == 1
    assert out.read_text() == 'old'
    assert not list(tmp_path.glob('.p*'))


@pytest.mark.parametrize(
    'argv, message',
    [
        (('--out-item', 'pred'), 'give --out FILE'),
        (('--out', 'a.txt'), 'a .json or .pkl file'),
        (('--out', 'a.json', '--out-item', 'pred'), 'a.json: predictions go into a .pkl file'),
        (('--out', 'a.pkl', '--dump', 'b.pkl'), 'add --out-item metrics'),
        (('--show-dir', 'x', '--cfg-options', 'default_hooks.visualization=None'), 'default_hooks.visualization'),
    ],
)
def test_output_flags_that_cannot_be_met(trained, argv, message, capsys):
    assert digits_test(trained, *argv) == 1
    assert message in capsys.readouterr().err


def test_tta_averages_the_scores_of_the_views(trained, tmp_path):
    """The digits config shifts; views that shift by nothing must give the plain scores."""
    plain, still, shifted = (tmp_path / f'{name}.pkl' for name in ('plain', 'still', 'shifted'))
    assert digits_test(trained, '--dump', str(plain)) == 0
    assert digits_test(trained, '--dump', str(shifted), '--tta') == 0
    zero = [f'tta_pipeline.0.transforms.0.{view}.magnitude=0.0' for view in range(5)]
    assert digits_test(trained, '--dump', str(still), '--tta', '--cfg-options', *zero) == 0
    scores = {
        path: torch.stack([item['pred_score'] for item in pickle.loads(path.read_bytes())])
        for path in (plain, still, shifted)
    }
    torch.testing.assert_close(scores[still], scores[plain])
    assert not torch.allclose(scores[shifted], scores[plain], atol=1e-3)


@pytest.fixture
def folders(tmp_path):
    """A config over an ImageNet-style folder of two classes."""
    for index in range(4):
        image = tmp_path / 'data' / 'train' / f'class{index % 2}' / f'{index}.png'
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((16, 16, 3), 40 * index, np.uint8)).save(image)
    config = tmp_path / 'folders.py'
    config.write_text(f"""
_base_ = {DIGITS!r}
pipeline = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=8), dict(type='PackInputs')]
dataset = dict(_delete_=True, type='ImageNet', data_root={str(tmp_path / 'data')!r}, split='train',
               classes=('class0', 'class1'), pipeline=pipeline)
train_dataloader = dict(dataset=dataset)
val_dataloader = dict(dataset=dataset)
train_cfg = dict(max_epochs=1)
""")
    return config


def run_in_process(config, work_dir, *argv):
    return run_train(str(config), '--work-dir', str(work_dir), *argv)


def test_missing_data_folder_is_one_line_before_anything_is_built(folders, tmp_path, capsys):
    (tmp_path / 'data').rename(tmp_path / 'elsewhere')
    assert run_in_process(folders, tmp_path / 'run') == 1
    assert f'train_dataloader.dataset.data_root: folder {tmp_path}/data does not exist' in capsys.readouterr().err
    assert not (tmp_path / 'run').exists()


def test_missing_split_folder_is_one_line(folders, tmp_path, capsys):
    (tmp_path / 'data' / 'train').rename(tmp_path / 'data' / 'other')
    assert run_in_process(folders, tmp_path / 'run') == 1
    assert str(tmp_path / 'data' / 'train') in capsys.readouterr().err.strip().splitlines()[-1]


@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize('content', [b'', b'no image'])
def test_unreadable_image_is_one_line(folders, tmp_path, capsys, workers, content):
    broken = tmp_path / 'data' / 'train' / 'class1' / '1.png'
    broken.write_bytes(content)
    workers = f'train_dataloader.num_workers={workers}'
    assert run_in_process(folders, tmp_path / 'run', '--cfg-options', workers) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith(
        f'train.py: error: image {broken} cannot be read: the file is damaged or no image; restore it'
    )
    assert not multiprocessing.active_children()  # the loader's workers ended with the run


def test_exit_code_and_traceback_flag_of_the_scripts(tmp_path):
    argv = ('tools/test.py', DIGITS, str(tmp_path / 'gone.pth'))
    processes = [start(*argv), start(*argv, '--traceback')]
    plain, detailed = (process.communicate()[1] for process in processes)
    assert [process.returncode for process in processes] == [1, 1]
    assert plain.strip() == f'test.py: error: checkpoint {tmp_path}/gone.pth does not exist'
    assert 'Traceback' in detailed
