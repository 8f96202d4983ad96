"""The READMEs' examples of inherited configs are ones."""

import itertools
import re
import textwrap
from pathlib import Path

import cv2
import numpy as np
import pytest

from reprefine.engine.build import build_model
from reprefine.engine.cli.launch import load_config
from reprefine.methods.denoiserep import denoise_layers
from tests.helpers.run import run_test, run_train

ROOT = Path(__file__).parents[1]
README = ROOT / 'README.md'
DENOISEREP = (ROOT / 'configs/denoiserep/README.md').read_text()
OVER_HOSTS = re.findall(r"^\| `(\w+::[\w/.-]+)` \| `(r?'[^']*')` \| (\d+) \|$", DENOISEREP, flags=re.MULTILINE)


def examples(text: str) -> list[str]:
    """The configs in a README."""
    return re.findall(r'```python\n(_base_.*?)```', text, flags=re.DOTALL)


def example(text: str) -> str:
    """The first config in a README."""
    return examples(text)[0]


def model_of(text: str, file: Path):
    file.write_text(text)
    return build_model(load_config(str(file)))


def test_the_example_config_builds(tmp_path):
    assert len(denoise_layers(model_of(example(README.read_text()), tmp_path / 'example.py'))) == 24


def test_the_table_has_a_config_of_each_host():
    assert {base.split('::')[0] for base, *_ in OVER_HOSTS} == {'mmpretrain', 'mmdet', 'mmseg', 'mmpose'}


@pytest.mark.parametrize(('base', 'include', 'layers'), OVER_HOSTS, ids=lambda value: value.split('::')[0])
def test_the_example_of_denoiserep_is_one_over_every_host(base, include, layers, tmp_path):
    pytest.importorskip(base.split('::')[0])
    text = example(DENOISEREP)
    swapped = re.sub("_base_ = '.*'", f"_base_ = '{base}'", text).replace("include='mlp'", f'include={include}')
    model = model_of(swapped, tmp_path / 'example.py')
    assert len(denoise_layers(model)) == int(layers)
    plain = model_of(f"_base_ = '{base}'\n", tmp_path / 'plain.py')
    assert isinstance(model, type(plain))
    assert set(model.state_dict()) - model.added_keys == set(plain.state_dict())


def test_commands_name_files_that_exist():
    named = re.findall(r'\b(?:tools|configs)/[\w/.-]+\.(?:py|sh)\b', README.read_text())
    assert len(named) >= 4
    for name in named:
        assert (README.parent / name).is_file(), name


# A small ViT on a folder of images.
MY_BASELINE = """
_base_ = ['mmpretrain::_base_/default_runtime.py']
model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='VisionTransformer', arch=dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64),
        img_size=32, patch_size=8),
    head=dict(type='VisionTransformerClsHead', num_classes=2, in_channels=32, loss=dict(type='CrossEntropyLoss')))
data_preprocessor = dict(num_classes=2, mean=[127.0] * 3, std=[60.0] * 3, to_rgb=True)
pipeline = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=(32, 32)), dict(type='PackInputs')]
train_dataloader = dict(
    batch_size=4, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type='CustomDataset', data_root='data', data_prefix='train', pipeline=pipeline))
val_dataloader = dict(
    batch_size=4, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='CustomDataset', data_root='data', data_prefix='val', pipeline=pipeline))
test_dataloader = val_dataloader
val_evaluator = test_evaluator = dict(type='Accuracy', topk=1)
optim_wrapper = dict(optimizer=dict(type='AdamW', lr=1e-4))
param_scheduler = [dict(type='LinearLR', by_epoch=True, end=5), dict(type='CosineAnnealingLR', begin=5, T_max=95)]
train_cfg, val_cfg, test_cfg = dict(by_epoch=True, max_epochs=100, val_interval=100), dict(), dict()
"""


@pytest.fixture
def images(tmp_path) -> Path:
    """A folder of images of two classes."""
    for split, name in itertools.product(('train', 'val'), ('cats', 'dogs')):
        folder = tmp_path / 'data/my_images' / split / name
        folder.mkdir(parents=True)
        for index in range(4):
            cv2.imwrite(str(folder / f'{index}.jpg'), np.random.default_rng(index).integers(0, 255, (32, 32, 3)))
    return tmp_path / 'data/my_images'


def test_a_model_of_ones_own_is_refined_and_used_as_the_readme_says(tmp_path, images, monkeypatch):
    text = README.read_text().split('## Your model, your data')[1]
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'my_baseline.py').write_text(MY_BASELINE)
    (tmp_path / 'my_config.py').write_text(example(text))
    brief = ('--data-root', str(images), '--cfg-options', 'train_cfg.max_epochs=1', 'param_scheduler=None')
    assert run_train('my_baseline.py', *brief) == 0
    Path('work_dirs/my_baseline/epoch_1.pth').rename('work_dirs/my_baseline/epoch_100.pth')
    Path('work_dirs/my_baseline/epoch_1.pth.sha256').unlink()
    for line in re.findall('^    python tools/(.*)$', text, flags=re.MULTILINE):
        tool, *words = line.split()
        assert {'train.py': run_train, 'test.py': run_test}[tool](*words) == 0, line
    (inference,) = re.findall(r'^(    from mmpretrain .*?)\n\n', text, flags=re.MULTILINE | re.DOTALL)
    monkeypatch.setattr('sys.argv', ['python'])
    cv2.imwrite('image.jpg', np.zeros((32, 32, 3)))
    exec(textwrap.dedent(inference))  # noqa: S102
