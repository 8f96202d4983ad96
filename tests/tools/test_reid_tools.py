"""vis_ranking.py and bench_reid_metric.py, and tools/test.py with the mirrored image."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from reprefine.engine.build import build_model
from reprefine.engine.cli.launch import load_config
from reprefine.registry import DATASETS
from reprefine.tasks.reid.predictions import Predictions
from tests.helpers.run import run_test
from tests.helpers.run_tool import run_tool
from tests.tasks.reid.photos import MARKET, write_folders

BASES = Path(__file__).parents[2] / 'configs/_base_'
RANKING = 'visualizations/vis_ranking.py'
BENCH = 'analysis_tools/bench_reid_metric.py'
MODEL = """
model = dict(
    type='ImageClassifier',
    backbone=dict(type='ResNet', depth=18, base_channels=4, stem_channels=4),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='reprefine.BNNeckHead', num_classes=2, in_channels=32,
        loss=dict(type='CrossEntropyLoss'), triplet=dict(type='reprefine.BatchHardTripletLoss'),
    ),
)
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1))
train_cfg = dict(by_epoch=True, max_epochs=1)
val_cfg = dict()
test_cfg = dict()
data_preprocessor = dict(num_classes=_base_.num_classes)
train_dataloader = dict(dataset=dict(_base_.identities, pipeline=_base_.train_pipeline))
val_dataloader = dict(dataset=dict(_base_.identities, pipeline=_base_.test_pipeline))
test_dataloader = dict(num_workers=0, dataset=dict(_base_.identities, pipeline=_base_.test_pipeline))
"""


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """A config, a checkpoint of random weights, and data."""
    folder = tmp_path_factory.mktemp('reid')
    datasets = [f'datasets/{name}.py' for name in ('market1501', 'reid', 'reid_256x128')]
    bases = [str(BASES / name) for name in (*datasets, 'runtime.py')]
    (folder / 'tiny.py').write_text(f'_base_ = {bases}\n{MODEL}')
    torch.manual_seed(0)
    model = build_model(load_config(str(folder / 'tiny.py')))
    torch.save(dict(state_dict=model.state_dict()), folder / 'random.pth')
    data = write_folders(folder / 'data', MARKET)
    return model.eval(), folder, (str(folder / 'tiny.py'), str(folder / 'random.pth'), '--data-root', data)


def test_tta_averages_image_and_flipped_image(run, tmp_path):
    model, folder, arguments = run
    file = tmp_path / 'features.npz'
    assert (
        run_test(*arguments, '--tta', '--work-dir', str(tmp_path), '--cfg-options', f'test_evaluator.out_file={file}')
        == 0
    )
    predictions = Predictions.load(file)
    cfg = load_config(arguments[0], data_root=arguments[-1])
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    for index, feature in enumerate(predictions.feature):
        views = [dataset[index] for _ in range(2)]
        views[1]['inputs'] = views[1]['inputs'].flip(2)
        batch = {key: [view[key] for view in views] for key in views[0]}
        with torch.no_grad():
            image, flipped = (sample.feature for sample in model.test_step(batch))
        torch.testing.assert_close(feature, (image + flipped) / 2)
        assert not torch.allclose(image, flipped, rtol=1e-3)
    assert predictions.tags.pid.tolist() == [1, 3, 0, 1, 3]
    assert predictions.is_query.tolist() == [True, True, False, False, False]


def test_ranking_is_drawn(run, tmp_path, capsys):
    out = tmp_path / 'new' / 'ranking.png'
    assert run_tool(RANKING, *run[2], '--out', out, '--topk', 3, '--num', 2, '--work-dir', tmp_path) == 0
    assert re.search(r'ranking.png: 2 queries, [012] with the correct identity first', capsys.readouterr().out)
    assert cv2.imread(str(out)).shape == (456, 422, 3)
    assert not list(tmp_path.rglob('*.npz'))


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (('--out', 'a.png', '--topk', 0), '--topk and --num must be positive'),
        (('--out', 'a.pdf'), 'give a .png file'),
        (('--out', 'a.png', '--data-root', 'absent'), 'absent does not exist'),
    ],
)
def test_wrong_arguments_are_refused(run, tmp_path, capsys, arguments, message):
    assert run_tool(RANKING, *run[2], '--work-dir', tmp_path, *arguments) == 1
    assert message in capsys.readouterr().err


def test_benchmark_agrees_with_the_loop(capsys):
    size = ('--queries', 40, '--gallery', 500, '--identities', 25, '--dim', 16)
    assert run_tool(BENCH, *size) == 0
    printed = capsys.readouterr().out
    values = [np.array(re.findall(r'(?:mAP|mINP|CMC-\d+) (\d+\.\d+)', line), float) for line in printed.splitlines()]
    metric, loop = (row for row in values if len(row))
    assert len(metric) == 5
    np.testing.assert_allclose(metric, loop, atol=2e-3)
    assert float(re.search(r'ratio (\d+\.\d)', printed)[1]) > 0
    assert run_tool(BENCH, *size, '--no-loop', '--max-memory', 0.01) == 1
    captured = capsys.readouterr()
    assert 'loop' not in captured.out
    assert 'above --max-memory 0.01' in captured.err


def test_help_names_an_example(capsys):
    for tool in (RANKING, BENCH, 'dataset_tools/prepare_cuhk03.py'):
        with pytest.raises(SystemExit, match='0'):
            run_tool(tool, '--help')
        assert 'example' in capsys.readouterr().out
