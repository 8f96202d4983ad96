"""The hook that tests the deployed form, in runs of the tool and inside training."""

import json
import pickle

import pytest
import torch
from mmengine.hooks import EMAHook, Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from reprefine.deploy.before_test import DeployBeforeTestHook
from reprefine.engine.build import build_model
from reprefine.engine.cli.launch import load_config
from reprefine.methods.pddr import PDConv
from tests.helpers.run import ROOT, run_test
from tests.methods.pddr.toys import make_conv, randomise

CONFIG = ROOT / 'configs/pddr/classification/resnet18-w32-pdb_10e_mnist5k.py'
SMALL = 3e-8  # of the classifier's weights: random norms make features so large that all scores would be 0 or 1


@pytest.fixture
def tested(monkeypatch):
    """What the forms of the PD convolutions were in each step of a test."""
    forms = []
    original = BaseModel.test_step

    def test_step(self, data):
        forms.append({layer.deploy for layer in self.modules() if isinstance(layer, PDConv)})
        return original(self, data)

    monkeypatch.setattr(BaseModel, 'test_step', test_step)
    return forms


def test_the_tool_gives_the_same_metrics_of_a_model_without_training_forms(tested, tmp_path):
    torch.manual_seed(0)
    model = randomise(build_model(load_config(str(CONFIG))))
    model.head.fc.weight.data *= SMALL
    checkpoint = tmp_path / 'trained.pth'
    torch.save(dict(state_dict=model.state_dict()), checkpoint)
    hooked = tmp_path / 'hooked.py'
    hooked.write_text(f"_base_ = '{CONFIG}'\ncustom_hooks = [dict(type='reprefine.DeployBeforeTestHook')]\n")
    metrics, scores = [], []
    for config in (CONFIG, hooked):
        words = ['--work-dir', tmp_path / config.stem, '--out', tmp_path / 'metrics.json']
        words += ['--dump', tmp_path / 'predictions.pkl']
        words += ['--cfg-options', 'test_dataloader.dataset.indices=40', 'test_dataloader.batch_size=40']
        assert run_test(str(config), str(checkpoint), *map(str, words)) == 0
        metrics.append(json.loads((tmp_path / 'metrics.json').read_text()))
        predictions = pickle.loads((tmp_path / 'predictions.pkl').read_bytes())
        scores.append(torch.stack([sample['pred_score'] for sample in predictions]))
    assert tested == [{False}, {True}]
    assert metrics[0] == metrics[1]
    torch.testing.assert_close(*scores, rtol=0, atol=1e-4)
    assert scores[0].std(0).max() > 0.01  # the network tells images apart


class Toy(BaseModel):
    """A PD convolution that learns to give zeros."""

    def __init__(self):
        super().__init__()
        self.conv = make_conv(4, 4, dtype=torch.float32, mode='B', group_num=2)

    def forward(self, inputs, mode='tensor'):
        outputs = self.conv(inputs).mean((2, 3))
        return dict(loss=outputs.square().mean()) if mode == 'loss' else list(outputs)


class Mean:
    """An evaluator that keeps the outputs."""

    def __init__(self):
        self.outputs, self.dataset_meta = [], None

    def process(self, data_samples, data_batch):
        self.outputs += data_samples

    def evaluate(self, _):
        return {}


class TestAfterEpoch(Hook):
    """Tests within a training, and notes what is where after it."""

    priority = 'VERY_LOW'
    __test__ = False

    def after_train_epoch(self, runner):
        model = runner.model
        runner.test()
        assert runner.model is model
        assert not model.conv.deploy
        model.train()


def trained(work_dir, hooks, tests=True):
    generator = torch.Generator().manual_seed(0)
    data = [dict(inputs=torch.randn(4, 5, 5, generator=generator)) for _ in range(6)]
    runner = Runner(
        model=Toy(),
        work_dir=str(work_dir),
        train_dataloader=DataLoader(data, 3),
        train_cfg=dict(by_epoch=True, max_epochs=2),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.05)),
        test_dataloader=DataLoader(data, 3),
        test_cfg={},
        test_evaluator=Mean(),
        default_hooks=dict(logger=None, checkpoint=None),
        custom_hooks=[*hooks, TestAfterEpoch()] if tests else list(hooks),
        log_level='WARNING',
        experiment_name=work_dir.name,
    )
    runner.train()
    return runner


def test_a_training_goes_on_as_if_nothing_had_been_tested(tested, tmp_path):
    runs = [trained(tmp_path / 'with', [DeployBeforeTestHook()]), trained(tmp_path / 'without', [], tests=False)]
    assert tested == [{True}] * 4  # two batches after each of two epochs
    states = [run.model.state_dict() for run in runs]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


@torch.no_grad()
def outputs_of(model, inputs):
    return torch.stack(model.eval()(inputs))


def test_the_moving_average_is_what_is_deployed(tmp_path):
    ema = EMAHook(momentum=0.4)
    runner = trained(tmp_path / 'ema', [DeployBeforeTestHook(), ema], tests=False)
    inputs = torch.stack([sample['inputs'] for sample in runner.train_dataloader.dataset])
    average, current = (outputs_of(model, inputs) for model in (ema.ema_model.module, runner.model))
    assert (average - current).abs().max() > 0.01
    runner.call_hook('before_test_epoch')
    assert runner.model.conv.deploy
    torch.testing.assert_close(outputs_of(runner.model, inputs), average, rtol=1e-4, atol=1e-5)
    runner.call_hook('after_test_epoch', metrics={})
    assert torch.equal(outputs_of(runner.model, inputs), current)


def test_a_test_that_broke_off_leaves_the_model_to_the_next_training_or_test(tmp_path):
    hook = DeployBeforeTestHook()
    runner = trained(tmp_path / 'broken', [hook], tests=False)
    model = runner.model
    for resume in (hook.before_train, hook.before_test_epoch):
        hook.before_test_epoch(runner)
        assert runner.model is not model
        resume(runner)
        hook.after_test_epoch(runner)
        assert runner.model is model
        assert not model.conv.deploy
