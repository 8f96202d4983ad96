"""The training of DVT's denoiser that the tests of guarantees run, on pairs of features instead of images."""

from pathlib import Path

from tests.methods.dvt.pair_files import write_pairs

CONFIG = 'dvt/denoiser/vit-b-dinov2_denoiser_8xb8-100k_voc10k'
CHANGES = """
custom_hooks = [hook for hook in _base_.custom_hooks if hook.type != 'reprefine.DenoiserVisualizationHook']
model = dict(neck=dict(in_channels=64, grid=4))
param_scheduler = [dict(type='reprefine.DenoiserLR', total=20)]
dataset = dict(data_root='{root}/features')
train_dataloader = dict(batch_size=2, num_workers=0, persistent_workers=False, dataset=dataset)
train_cfg = dict(max_iters=6)
"""


def write_data(folder: Path) -> list[Path]:
    """Write the training data below ``folder``, and return its files."""
    write_pairs(folder / 'features', count=4)
    return sorted((folder / 'features').rglob('*.npy'))
