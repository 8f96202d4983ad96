"""The hooks that write deployed checkpoints after training and that test a deployed copy, in training and in tools."""

import json
import pickle

import pytest
import torch
from mmengine.hooks import EMAHook, Hook
from mmengine.model import BaseModel
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from reprefine.deploy.hooks import DeployBeforeTestHook, ReparameterizeHook
from reprefine.engine.build import build_model
from reprefine.engine.cli.launch import load_config
from reprefine.engine.errors import UserError
from reprefine.engine.runner import Runner
from reprefine.methods.pddr import PDConv
from reprefine.registry import HOOKS
from tests.deploy.toys import two_layers
from tests.helpers.run import ROOT, run_test
from tests.methods.pddr.toys import make_conv, randomise

CONFIG = ROOT / 'configs/pddr/classification/resnet18-w32-pdb_10e_mnist5k.py'
SMALL = 3e-8  # of the classifier's weights: random norms make features so large that all scores would be 0 or 1


class Model(BaseModel):
    """Regression of three numbers on five, by deployable layers."""

    def __init__(self, error: float = 0.0):
        super().__init__()
        self.layers = two_layers(error)

    def forward(self, inputs: Tensor, mode: str = 'tensor') -> Tensor | dict:
        outputs = self.layers(torch.stack(list(inputs)))
        return dict(loss=outputs.square().mean()) if mode == 'loss' else outputs


class Points(Dataset):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> dict:
        return dict(inputs=torch.ones(5) * index)


def train(folder, model: BaseModel) -> Runner:
    runner = Runner(
        model,
        str(folder),
        train_dataloader=dict(batch_size=2, dataset=Points(), sampler=dict(type='DefaultSampler', shuffle=False)),
        train_cfg=dict(by_epoch=True, max_epochs=2),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01)),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1)),
        custom_hooks=[dict(type='reprefine.ReparameterizeHook')],
        experiment_name=folder.name,
        visualizer=dict(type='Visualizer', name=folder.name),
    )
    runner.train()
    return runner


def test_the_last_checkpoint_is_deployed(tmp_path):
    runner = train(tmp_path, Model())
    assert [file.name for file in sorted(tmp_path.glob('*.pth'))] == [
        'epoch_1.pth',
        'epoch_2.pth',
        'epoch_2_deploy.pth',
    ]
    written = torch.load(tmp_path / 'epoch_2_deploy.pth', weights_only=True)
    assert written['meta']['deployed'] == {'layers.0': 'TwoBranches', 'layers.2': 'TwoBranches'}
    assert written['meta']['epoch'] == 2
    deployed = Model()
    for layer in (deployed.layers[0], deployed.layers[2]):
        layer.switch_to_deploy()
    deployed.load_state_dict(written['state_dict'])  # strict
    x = torch.randn(3, 5)
    torch.testing.assert_close(deployed(x), runner.model(x))
    assert not runner.model.layers[0].deploy  # the model of the run is not modified


def test_the_best_checkpoint_is_deployed_and_files_are_replaced(tmp_path):
    runner = train(tmp_path, Model())
    expected = (tmp_path / 'epoch_2_deploy.pth').read_bytes()
    runner.message_hub.update_info('best_ckpt', str(tmp_path / 'epoch_1.pth'))
    (tmp_path / 'epoch_2_deploy.pth').write_text('old')
    ReparameterizeHook().after_train(runner)
    assert (tmp_path / 'epoch_1_deploy.pth').is_file()
    assert (tmp_path / 'epoch_2_deploy.pth').read_bytes() == expected


def test_a_deployed_form_that_differs_ends_the_run_and_nothing_is_written(tmp_path):
    with pytest.raises(UserError, match=r'epoch_2.pth: the deployed form of layers.2 differs by'):
        train(tmp_path, Model(error=0.01))
    assert [file.name for file in sorted(tmp_path.glob('*.pth'))] == ['epoch_1.pth', 'epoch_2.pth']


def test_other_processes_write_nothing(monkeypatch):
    monkeypatch.setattr('reprefine.deploy.hooks.is_main_process', lambda: False)
    ReparameterizeHook().after_train(runner=None)


def test_the_hook_is_registered():
    assert HOOKS.get('reprefine.ReparameterizeHook') is ReparameterizeHook


@pytest.fixture
def tested(monkeypatch):
    """The values of ``deploy`` of the PD convolutions in each test step."""
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
    assert scores[0].std(0).max() > 0.01  # scores depend on the image


class Toy(BaseModel):
    """A PD convolution that is trained to return zeros."""

    def __init__(self):
        super().__init__()
        self.conv = make_conv(4, 4, dtype=torch.float32, mode='B', group_num=2)

    def forward(self, inputs, mode='tensor'):
        outputs = self.conv(inputs).mean((2, 3))
        return dict(loss=outputs.square().mean()) if mode == 'loss' else list(outputs)


class Mean:
    """An evaluator that stores the outputs."""

    def __init__(self):
        self.outputs, self.dataset_meta = [], None

    def process(self, data_samples, data_batch):
        self.outputs += data_samples

    def evaluate(self, _):
        return {}


class TestAfterEpoch(Hook):
    """Tests after each training epoch and checks that the model is restored."""

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


def test_a_training_continues_as_if_nothing_had_been_tested(tested, tmp_path):
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


def test_after_a_test_that_raised_an_error_the_next_training_or_test_restores_the_model(tmp_path):
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
