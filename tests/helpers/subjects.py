"""A training of six iterations for each method and each OpenMMLab library, on files in a given folder.

That of a method is declared in ``tests/methods/<method>/subject.py``: ``CONFIG``, its path below ``configs/`` without
suffix, and ``CHANGES``, text of a config that makes six iterations of it cheap and drops only its validation;
``custom_hooks`` is a list that it may change. Optional are ``NUM_VIEWS`` of each image (default 1), ``values()`` for
names in braces in the text, and ``write_data(folder)``, which writes other training data than the default images and
returns its files.
"""

from pathlib import Path
from typing import NamedTuple

from tests.configs.brief import ROOT
from tests.helpers.methods import METHODS, declared
from tests.helpers.tiny_hosts import CLASSIFIER, write_config, write_images
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
VIEWS = f"random = [dict(type='MultiView', num_views={{views}}, transforms=[[{FLIP}]])]"
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
SUBJECTS = (*METHODS, 'mmpretrain', *PACKING)


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
    if name in METHODS:
        text, files = _of_method(name, folder, files)
    else:
        text = _host_text(name) + 'custom_hooks = []\n'
    return Subject(write_config(folder, text + SAVE + more), ('--no-validate',), files)


def _of_method(name: str, folder: Path, images: list[Path]) -> tuple[str, list[Path]]:
    """Return the config of a method's training, and the files that it reads."""
    assert name in declared('subject'), f'write tests/methods/{name}/subject.py as tests/helpers/subjects.py says'
    subject = declared('subject')[name]
    hooks = "custom_hooks = [*_base_.get('custom_hooks', [])]"
    text = f"_base_ = '{ROOT}/configs/{subject.CONFIG}.py'\n{hooks}\n{subject.CHANGES}\n"
    for key, value in (subject.values() if hasattr(subject, 'values') else {}).items():
        text = text.replace(f'{{{key}}}', value)
    if hasattr(subject, 'write_data'):
        return text, subject.write_data(folder)
    views = getattr(subject, 'NUM_VIEWS', 1)
    random = f'random = [{FLIP}]' if views == 1 else VIEWS.format(views=views)
    return text + random + IMAGES, images


def _host_text(name: str) -> str:
    if name == 'mmpretrain':
        return _changed(CLASSIFIER, IN_PROCESS)
    packing = PACKING[name]
    text = _changed(CASES[name][0], {packing: f'{FLIP}, {packing}'})
    return text + ('train_cfg = dict(max_iters=6)\n' if name == 'mmseg' else 'train_cfg = dict(max_epochs=3)\n')


def _changed(text: str, changes: dict[str, str]) -> str:
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new, 1)
    return text
