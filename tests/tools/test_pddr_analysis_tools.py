"""The analysis tools of PD networks, and the comparison of configs over seeds."""

import argparse
import json
from pathlib import Path

import cv2
import pytest
import torch
from mmengine.dataset import BaseDataset

from reprefine.engine.build import build_model
from reprefine.engine.cli.launch import load_config
from reprefine.methods.pddr.analysis.attribution import figure as cam
from reprefine.methods.pddr.analysis.data_loading import (
    evaluate_model,
    evenly_spaced_training_images,
    load_evenly_spaced,
    preprocess_batch,
)
from tests.helpers.run_tool import load_tool, run_tool

CONFIGS = Path(__file__).parents[2] / 'configs'
BASELINE = CONFIGS / 'baselines/classification/resnet18-w32_10e_mnist5k.py'
PD_A, PD_B = (CONFIGS / f'pddr/classification/resnet18-w32-pd{mode}_10e_mnist5k.py' for mode in 'ab')
FEW = ('--cfg-options', 'test_dataloader.dataset.indices=40')


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    """Checkpoints of untrained networks by config."""
    folder, files = tmp_path_factory.mktemp('weights'), {}
    for config in (BASELINE, PD_A, PD_B):
        torch.manual_seed(0)
        files[config] = folder / f'{config.stem}.pth'
        torch.save(dict(state_dict=build_model(load_config(str(config))).state_dict()), files[config])
    return files


def test_cam_draws_one_row_an_image_and_one_column_a_model(weights, tmp_path):
    out = tmp_path / 'cam.png'
    models = [word for config, file in weights.items() for word in ('--model', config, file)]
    assert run_tool('visualizations/vis_cam.py', *models, '--out', out, '--num', 3, *FEW) == 0
    height, width = cv2.imread(str(out)).shape[:2]
    assert width / height == pytest.approx(4 * 1.7 / (3 * 1.9), rel=0.02)


def test_cam_reads_the_images_that_it_draws_and_no_others(monkeypatch, tmp_path):
    cfg = load_config(str(BASELINE))
    read = []
    original = BaseDataset.__getitem__
    monkeypatch.setattr(BaseDataset, '__getitem__', lambda self, index: read.append(index) or original(self, index))
    batch = preprocess_batch(build_model(cfg), load_evenly_spaced(cfg, 3))
    assert read == [0, 500, 999]  # of 1,000
    assert batch.images.shape == (3, 3, 28, 28)
    assert len(batch.raw_images) == 3
    few = load_config(str(BASELINE), {'test_dataloader.dataset.indices': 2})
    assert len(load_evenly_spaced(few, 6)['inputs']) == 2


def test_cam_of_two_checkpoints_of_one_config(weights, tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr(cam, '_show', lambda axes, picture, title: drawn.setdefault(title.rpartition('\n')[0], picture))
    other = tmp_path / 'other.pth'
    state = torch.load(weights[BASELINE], weights_only=True)
    torch.save({key: {k: v + 0.1 for k, v in value.items()} for key, value in state.items()}, other)
    models = ['--model', BASELINE, weights[BASELINE], '--model', BASELINE, other, '--num', 1]
    assert run_tool('visualizations/vis_cam.py', *models, '--out', tmp_path / 'cam.png', *FEW) == 0
    names = [f'{BASELINE.stem}\n{file.stem}' for file in (weights[BASELINE], other)]
    assert list(drawn) == ['', *names]
    assert (drawn[names[0]] != drawn[names[1]]).any()


def test_every_method_is_a_column_of_every_model(weights, tmp_path, monkeypatch, capsys):
    drawn = {}
    monkeypatch.setattr(cam, '_show', lambda axes, picture, title: drawn.setdefault(title, []).append(picture))
    methods = ['grad-cam', 'gradient', 'deconvnet', 'guided-backprop', 'guided-grad-cam', 'occlusion']
    models = [word for config in (BASELINE, PD_B) for word in ('--model', config, weights[config])]
    arguments = [*models, '--num', 2, '--size', 32, '--patch', 9, '--stride', 12, '--method', *methods]
    assert run_tool('visualizations/vis_cam.py', *arguments, '--out', tmp_path / 'maps.png', *FEW) == 0
    assert '2 images, 2 models, grad-cam, gradient' in capsys.readouterr().out
    columns = [title.partition(': predicts')[0] for title in drawn if 'predicts' in title]
    assert list(dict.fromkeys(columns)) == [f'{path.stem}\n{method}' for path in (BASELINE, PD_B) for method in methods]
    panels = [panel for column in drawn.values() for panel in column]
    assert len(panels) == 2 * (1 + 2 * len(methods))
    assert {(panel.shape, panel.dtype.name) for panel in panels} == {((32, 32, 3), 'uint8')}
    assert len({panel.tobytes() for panel in panels}) == len(panels)


def test_gradients_need_no_feature_maps_and_guided_ones_a_relu(tmp_path, capsys):
    config = CONFIGS / 'baselines/classification/vit-tiny_mnist5k.py'
    torch.save(dict(state_dict=build_model(load_config(str(config))).state_dict()), tmp_path / 'vit.pth')
    model = ['--model', config, tmp_path / 'vit.pth', '--out', tmp_path / 'vit.png', '--num', 1]
    assert run_tool('visualizations/vis_cam.py', *model, '--method', 'gradient', *FEW) == 0
    assert cv2.imread(str(tmp_path / 'vit.png')) is not None
    assert run_tool('visualizations/vis_cam.py', *model, '--method', 'guided-backprop', *FEW) == 1
    assert 'runs no ReLU' in capsys.readouterr().err
    assert run_tool('visualizations/vis_cam.py', *model, *FEW) == 1
    assert 'backbone.layer4: the model has no module' in capsys.readouterr().err
    assert run_tool('visualizations/vis_cam.py', *model, '--size', 0, *FEW) == 1
    assert '--size 0' in capsys.readouterr().err


def test_help_of_the_maps_has_an_example(capsys):
    with pytest.raises(SystemExit, match='0'):
        run_tool('visualizations/vis_cam.py', '--help')
    assert '--method grad-cam guided-grad-cam occlusion' in capsys.readouterr().out


def test_branches_are_drawn_and_measured(weights, tmp_path, capsys):
    out = tmp_path / 'branches.png'
    tool = 'visualizations/vis_pd_branches.py'
    assert run_tool(tool, PD_A, weights[PD_A], '--layer', 'layer3.1.conv2', '--out', out, *FEW) == 0
    assert 'standard1: 147,456 weights' in capsys.readouterr().out
    assert cv2.imread(str(out)) is not None


def test_gates_are_tabulated_by_layer(weights, tmp_path, capsys):
    assert run_tool('analysis_tools/pd_gates.py', PD_B, weights[PD_B], '--plot', tmp_path / 'gates.png', *FEW) == 0
    lines = [line.split(' | ') for line in capsys.readouterr().out.splitlines() if line.startswith('| backbone.')]
    assert len(lines) == 12
    for _, *cells in lines:
        assert sum(float(cell.split()[0]) for cell in cells) == pytest.approx(1, abs=3e-3)
    assert cv2.imread(str(tmp_path / 'gates.png')) is not None


def test_gates_of_pd_a_are_a_user_error(weights, capsys):
    assert run_tool('analysis_tools/pd_gates.py', PD_A, weights[PD_A], *FEW) == 1
    assert 'no gate' in capsys.readouterr().err


def test_lottery_transfer_loads_strictly_into_the_baseline(weights, tmp_path):
    out = tmp_path / 'lottery.pth'
    tool = 'model_converters/lottery_transfer_pddr.py'
    assert run_tool(tool, PD_A, weights[PD_A], out) == 0
    build_model(load_config(str(BASELINE))).load_state_dict(torch.load(out)['state_dict'], strict=True)
    assert run_tool(tool, PD_A, weights[PD_A], out) == 1


def test_static_gates_give_a_baseline_checkpoint_and_the_metrics_of_both_models(weights, tmp_path, capsys):
    out, tool = tmp_path / 'static.pth', 'model_converters/static_gates_pddr.py'
    assert run_tool(tool, PD_B, weights[PD_B], out, '--num', 3, *FEW) == 0
    printed = capsys.readouterr().out
    content = torch.load(out)
    record = content['meta']['pddr_static_gates']
    cfg = load_config(str(BASELINE), {'test_dataloader.dataset.indices': 40})
    baseline = build_model(cfg).eval()
    baseline.load_state_dict(content['state_dict'], strict=True)
    assert record['images'] == 3
    assert record['approximate'] == evaluate_model(cfg, baseline)
    assert 0 <= record['exact']['accuracy/top1'] <= 100
    assert 'APPROXIMATE, with the mean of 12 gates over 3 images' in printed
    top1 = [f'{record[form]["accuracy/top1"]:.4f}' for form in ('exact', 'approximate')]
    assert f'top1: {top1[0]} with the gates of each sample, {top1[1]} with the fixed ones' in printed
    assert run_tool(tool, PD_B, weights[PD_B], out, *FEW) == 1
    assert 'exists' in capsys.readouterr().err
    assert run_tool(tool, PD_A, weights[PD_A], tmp_path / 'a.pth', '--num', 1, *FEW) == 1
    assert 'no PD-B convolution' in capsys.readouterr().err
    assert not (tmp_path / 'a.pth').exists()


def test_gates_are_averaged_over_training_images_without_augmentation():
    cfg = load_config(str(BASELINE))
    model = build_model(cfg)
    images = list(evenly_spaced_training_images(cfg, model, 3))
    assert [image.shape for image in images] == [(1, 3, 28, 28)] * 3
    assert all(torch.equal(a, b) for a, b in zip(images, evenly_spaced_training_images(cfg, model, 3), strict=True))
    first = preprocess_batch(model, load_evenly_spaced(cfg, 1)).images
    assert not torch.equal(images[0], first)  # of the test set


@pytest.fixture
def compare(tmp_path):
    names, parser = load_tool('analysis_tools/compare_seeds.py')
    given = [str(PD_A), '--control', str(BASELINE), '--seeds', '2', '--out', str(tmp_path)]
    return argparse.Namespace(**names, args=parser.parse_args(given))


def test_every_seed_is_trained_and_its_last_checkpoint_tested(compare, tmp_path):
    train, test = compare.make_jobs(str(PD_A), load_config(str(PD_A)), 1, compare.args)
    assert 'randomness.seed=1' in train.command
    assert train.product == tmp_path / 'resnet18-w32-pda_10e_mnist5k_seed1/epoch_10.pth'
    assert test.command[2] == str(train.product)
    assert test.after == (train.name,)


def test_table_pairs_the_seeds(compare, tmp_path):
    configs = {str(path): load_config(str(path)) for path in (BASELINE, PD_A)}
    for path, scores, seconds in ((BASELINE, (90.0, 94.0), 1.0), (PD_A, (91.0, 97.0), 2.5)):
        for seed, score in enumerate(scores):
            folder = compare.work_dir_of(str(path), seed, tmp_path)
            (folder / 'run/vis_data').mkdir(parents=True)
            (folder / 'test.json').write_text(json.dumps({'accuracy/top1': score}))
            record = dict(lr=0.1, time=seconds, step=10, epoch=1)
            (folder / 'run/vis_data/scalars.json').write_text(json.dumps(record) + '\n')
    control, row = compare.make_table(configs, compare.args).splitlines()[2:]
    assert control == '| `resnet18-w32_10e_mnist5k` | 700,458 | 92.00 ± 2.83 | - | 1 |'
    assert row == '| `resnet18-w32-pda_10e_mnist5k` | 1,855,786 | 94.00 ± 4.24 | +2.00 ± 1.41 | 2.50 ± 0.00 |'


def test_an_unknown_metric_is_named(compare, tmp_path):
    folder = compare.work_dir_of(str(BASELINE), 0, tmp_path)
    folder.mkdir()
    (folder / 'test.json').write_text(json.dumps({'accuracy/top1': 90.0}))
    with pytest.raises(compare.UserError, match='measures accuracy/top1'):
        compare._score(folder, 'mAP')
