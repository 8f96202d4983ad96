"""The hook that folds what a run has saved, for any method."""

import pytest
import torch
from mmengine.model import BaseModel
from torch import Tensor
from torch.utils.data import Dataset

from reprefine.deploy.hook import ReparameterizeHook
from reprefine.engine.errors import UserError
from reprefine.engine.runner import Runner
from reprefine.registry import HOOKS
from tests.deploy.toys import two_layers


class Model(BaseModel):
    """Regresses three numbers on five, by layers that fold."""

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


def test_the_last_checkpoint_is_folded(tmp_path):
    runner = train(tmp_path, Model())
    assert [file.name for file in sorted(tmp_path.glob('*.pth'))] == [
        'epoch_1.pth',
        'epoch_2.pth',
        'epoch_2_deploy.pth',
    ]
    written = torch.load(tmp_path / 'epoch_2_deploy.pth', weights_only=True)
    assert written['meta']['deployed'] == {'layers.0': 'TwoBranches', 'layers.2': 'TwoBranches'}
    assert written['meta']['epoch'] == 2
    folded = Model()
    for layer in (folded.layers[0], folded.layers[2]):
        layer.switch_to_deploy()
    folded.load_state_dict(written['state_dict'])  # strict
    x = torch.randn(3, 5)
    torch.testing.assert_close(folded(x), runner.model(x))
    assert not runner.model.layers[0].deploy  # the model of the run stays


def test_the_best_checkpoint_is_folded_and_files_are_replaced(tmp_path):
    runner = train(tmp_path, Model())
    former = (tmp_path / 'epoch_2_deploy.pth').read_bytes()
    runner.message_hub.update_info('best_ckpt', str(tmp_path / 'epoch_1.pth'))
    (tmp_path / 'epoch_2_deploy.pth').write_text('old')
    ReparameterizeHook().after_train(runner)
    assert (tmp_path / 'epoch_1_deploy.pth').is_file()
    assert (tmp_path / 'epoch_2_deploy.pth').read_bytes() == former


def test_a_wrong_fold_ends_the_run_and_nothing_is_written(tmp_path):
    with pytest.raises(UserError, match=r'epoch_2.pth: layers.2 differs by'):
        train(tmp_path, Model(error=0.01))
    assert [file.name for file in sorted(tmp_path.glob('*.pth'))] == ['epoch_1.pth', 'epoch_2.pth']


def test_other_processes_write_nothing(monkeypatch):
    monkeypatch.setattr('reprefine.deploy.hook.is_main_process', lambda: False)
    ReparameterizeHook().after_train(runner=None)


def test_the_hook_is_registered():
    assert HOOKS.get('reprefine.ReparameterizeHook') is ReparameterizeHook
