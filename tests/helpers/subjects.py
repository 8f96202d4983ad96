"""A training of six iterations for each method and each OpenMMLab library, on files in a given folder."""

from pathlib import Path
from typing import NamedTuple

from tests.configs.brief import ROOT, tiny_teacher_folder
from tests.helpers.tiny_hosts import CLASSIFIER, write_config, write_images
from tests.methods.dvt.pair_files import write_pairs
from tests.tools.test_hosts import CASES

SAVE = """
default_hooks = dict(
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=2, max_keep_ckpts=2, save_best=None)
)
randomness = dict(seed=0)
"""
FLIP = "dict(type='RandomFlip', prob=0.5)"
IMAGES = """
dataset = dict(
    _delete_=True, type='CustomDataset', data_root='{root}', data_prefix='train',
    pipeline=[dict(type='LoadImageFromFile'), dict(type='Resize', scale=32), *random, dict(type='PackInputs')],
)
train_dataloader = dict(batch_size=2, dataset=dataset)
train_cfg = dict(max_epochs=3)
"""
ONE_VIEW = f'random = [{FLIP}]'
TWO_VIEWS = f"random = [dict(type='MultiView', num_views=2, transforms=[[{FLIP}]])]"
# With everything that the method has beside the model, except validation.
METHODS = {
    'denoiserep': (
        'denoiserep/classification/vit-tiny_denoiserep_digits',
        """
load_from = None
model = dict(backbone=dict(img_size=32, patch_size=16, arch=dict(num_layers=1)))
custom_hooks = [*_base_.custom_hooks]
custom_hooks[1].update(phase_length=2, by='iter')
""",
        ONE_VIEW,
    ),
    'pddr': ('pddr/classification/resnet18-w32-pda_10e_mnist5k', 'custom_hooks = [*_base_.custom_hooks]\n', ONE_VIEW),
    'feature_transform': (
        'feature_transform/selfsup/moco-v2-ft_resnet14-narrow_12e_mnist5k',
        """
model = dict(queue_len=8, backbone=dict(norm_cfg=dict(num_splits=1)))
custom_hooks = [hook for hook in _base_.custom_hooks if hook.type != 'reprefine.KNNMonitorHook']
""",
        TWO_VIEWS,
    ),
    'repfusion': (
        'repfusion/distill/resnet14-narrow_repfusion-rl-hint_6e_mnist5k-32px',
        """
model = dict(teacher=dict(source='{teacher}', layers=[['mid_block.resnets.1.conv2', 16]]))
custom_hooks = [*_base_.custom_hooks]
custom_hooks[-1].update(warmup_epochs=1)
""",
        ONE_VIEW,
    ),
}
DENOISER = """
custom_hooks = [hook for hook in _base_.custom_hooks if hook.type != 'reprefine.DenoiserVisualizationHook']
model = dict(neck=dict(in_channels=64, grid=4))
param_scheduler = [dict(type='reprefine.DenoiserLR', total=20)]
dataset = dict(data_root='{root}/features')
train_dataloader = dict(batch_size=2, num_workers=0, persistent_workers=False, dataset=dataset)
train_cfg = dict(max_iters=6)
"""
# Changes of the small configs: random flips, no workers.
IN_PROCESS = {
    "init_cfg=dict(type='Pretrained', checkpoint='absent.pth')": 'init_cfg=None',
    'prob=1.0': 'prob=0.5',
    'max_epochs=10': 'max_epochs=3',
    'num_workers=2, persistent_workers=True': 'num_workers=0',
}
PACKING = {
    'mmdet': "dict(type='PackDetInputs'",
    'mmseg': "dict(type='PackSegInputs'",
    'mmpose': "dict(type='TopdownAffine'",
}
SUBJECTS = (*METHODS, 'dvt', 'mmpretrain', *PACKING)


class Subject(NamedTuple):
    """A training and its files.

    Attributes:
        config: Path of the config.
        argv: Further arguments of ``tools/train.py``.
        files: The files of its training data.
    """

    config: str
    argv: tuple[str, ...]
    files: list[Path]


def write_subject(name: str, folder: Path, more: str = '') -> Subject:
    """Write data and config of a training; the config ends with the lines ``more``."""
    write_images(folder)
    files = sorted((folder / ('images' if name in PACKING else 'train')).rglob('*.png'))
    if name == 'dvt':
        write_pairs(folder / 'features', count=4)
        files = sorted((folder / 'features').rglob('*.npy'))
        text = _derived('dvt/denoiser/vit-b-dinov2_denoiser_8xb8-100k_voc10k', DENOISER)
    elif name in METHODS:
        config, text, random = METHODS[name]
        if '{teacher}' in text:
            text = text.replace('{teacher}', tiny_teacher_folder())
        text = _derived(config, text + random + IMAGES)
    else:
        text = _host_text(name) + 'custom_hooks = []\n'
    return Subject(write_config(folder, text + SAVE + more), ('--no-validate',), files)


def _host_text(name: str) -> str:
    if name == 'mmpretrain':
        return _changed(CLASSIFIER, IN_PROCESS)
    packing = PACKING[name]
    text = _changed(CASES[name][0], {packing: f'{FLIP}, {packing}'})
    return text + ('train_cfg = dict(max_iters=6)\n' if name == 'mmseg' else 'train_cfg = dict(max_epochs=3)\n')


def _derived(config: str, text: str) -> str:
    return f"_base_ = '{ROOT}/configs/{config}.py'\n{text}"


def _changed(text: str, changes: dict[str, str]) -> str:
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new, 1)
    return text
