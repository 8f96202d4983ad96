"""Two processes fill one memory bank together."""

import torch
from toy_data import make_toy_data

from tests.helpers import two_processes
from tests.helpers.run import ROOT, run_train

CONFIG = str(ROOT / 'configs/baselines/segmentation/vit-b-dinov2_knn20_voc12-518x518.py')
TINY = [
    f'+model.backbone.model_args.{name}={value}' for name, value in dict(depth=1, embed_dim=32, num_heads=2).items()
]
OPTIONS = [
    *TINY,
    'model.backbone.pretrained=False',
    'model.decode_head.in_channels=32',
    'train_dataloader.batch_size=1',
    *(f'{name}_dataloader.dataset.indices=5' for name in ('train', 'val')),
    *(f'{name}_dataloader.num_workers=0' for name in ('train', 'val')),
    'train_dataloader.dataset.pipeline.2.scale=[56,56]',
    'val_dataloader.dataset.pipeline.1.scale=[56,56]',
    'randomness.seed=0',
]


def bank(folder) -> torch.Tensor:
    state = torch.load(folder / 'epoch_1.pth', weights_only=True)['state_dict']
    rows = state['decode_head.bank._extra_state'].tolist()
    return torch.tensor(sorted(rows))


def test_two_processes_fill_the_bank_like_one(tmp_path):
    voc = make_toy_data(tmp_path / 'toy', ['voc'])[0] / 'VOC2012'
    arguments = [CONFIG, '--data-root', str(voc), '--cfg-options', *OPTIONS]
    assert run_train(*arguments, '--work-dir', str(tmp_path / 'one')) == 0
    code, output = two_processes.train(tmp_path / 'two', *arguments)
    assert code == 0, output
    one, two = bank(tmp_path / 'one'), bank(tmp_path / 'two')
    assert one.shape == two.shape
    assert len(one) > 5
    assert torch.allclose(one, two, atol=1e-5)
