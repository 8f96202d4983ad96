import numpy as np
import pytest
from PIL import Image

from tests.helpers.run import DIGITS
from tests.helpers.run_tool import run_tool


def test_verify_dataset_reads_valid_data(capsys):
    assert run_tool('misc/verify_dataset.py', DIGITS, '--workers', 0) == 0
    assert 'test_dataloader.dataset: 355 samples read, 0 unreadable or mislabelled' in capsys.readouterr().out


def test_verify_dataset_lists_unreadable_samples(tmp_path, capsys):
    for index in range(4):
        image = tmp_path / 'data' / 'train' / f'class{index % 2}' / f'{index}.png'
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((16, 16, 3), 40 * index, np.uint8)).save(image)
    image.write_bytes(b'')
    config = tmp_path / 'folders.py'
    config.write_text(f"""
_base_ = {DIGITS!r}
pipeline = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=8), dict(type='PackInputs')]
dataset = dict(_delete_=True, type='ImageNet', data_root='nowhere', split='train',
               classes=('class0', 'class1'), pipeline=pipeline)
train_dataloader = dict(dataset=dataset)
val_dataloader = dict(dataset=dataset)
test_dataloader = dict(dataset=dataset)
""")
    out = tmp_path / 'unreadable.txt'
    argv = ('misc/verify_dataset.py', config, '--workers', 0, '--out', out)
    assert run_tool(*argv, '--data-root', tmp_path / 'data') == 1
    printed = capsys.readouterr()
    assert 'train_dataloader.dataset: 4 samples read, 1 unreadable or mislabelled' in printed.out
    assert '2 of 2 classes found: class0 2, class1 1' in printed.out
    assert printed.err.strip().endswith(
        'error: 1 samples are unreadable or have an invalid label: fix them, or remove them from the lists'
    )
    assert out.read_text().startswith(f'train_dataloader.dataset[3] {image}: ')
    assert run_tool(*argv) == 1
    assert 'folder nowhere does not exist' in capsys.readouterr().err


@pytest.mark.parametrize(
    'argv, message',
    [
        (('imagenet_subset.py', '{0}'), '{0} is not an ImageNet folder: expected train/<wnid>/*.JPEG and val/'),
        (('imagenet_subset.py', '{0}', '--classes', '{0}/c.txt'), 'class file {0}/c.txt does not exist'),
        (('prepare_tiny_imagenet.py', '{0}', '--out', '{0}/v'), '{0}/val/val_annotations.txt does not exist'),
        (('voc_image_list.py', '{0}', '--out', '{0}/list.txt'), 'Segmentation/val.txt does not exist; unpack'),
    ],
)
def test_missing_data_is_one_line(argv, message, tmp_path, capsys):
    tool, *rest = (word.format(tmp_path) for word in argv)
    assert run_tool(f'dataset_tools/{tool}', *rest) == 1
    error = capsys.readouterr().err.strip()
    assert message.format(tmp_path) in error
    assert '\n' not in error
    assert not list(tmp_path.iterdir())
