"""The dataset of stored pairs of raw and denoised features."""

import cv2
import numpy as np
import pytest
import torch

from reprefine.engine.data_checks.images import read_image
from reprefine.engine.data_checks.unreadable import UnreadableSample
from reprefine.engine.errors import UserError
from reprefine.methods.dvt import DenoiserTraining, DenoiserVisualizationHook, FeaturePairDataset, FeaturePairs
from reprefine.methods.dvt.stage1.views import prepare_image

from ..pair_files import MODEL, write_pairs
from .test_training import NECK


def test_samples_are_what_is_stored(tmp_path):
    pairs = write_pairs(tmp_path)
    dataset = FeaturePairDataset(str(tmp_path), MODEL)
    assert len(dataset) == 6
    sample = dataset[2]
    assert sample['name'] == 'VOC2012/2.jpg'
    for key in ('raw', 'denoised'):
        stored = getattr(pairs, key)('VOC2012/2.jpg')
        assert sample[key].shape == (64, 3, 4)
        assert sample[key][5, 2, 1] == stored[2, 1, 5]
        assert torch.equal(sample[key], torch.tensor(stored).permute(2, 0, 1))


def test_missing_pairs_are_reported_and_left_out(tmp_path, monkeypatch):
    pairs = write_pairs(tmp_path)
    pairs.path('raw_features', 'VOC2012/3.jpg').unlink()
    names = [f'data/VOCdevkit/VOC2012/{number}.jpg' for number in (5, 3, 0, 9)]
    (tmp_path / 'list.txt').write_text('\n'.join(names) + '\n')
    messages = []
    monkeypatch.setattr(
        'reprefine.methods.dvt.denoiser.pair_dataset.print_log', lambda message, *_: messages.append(message)
    )
    dataset = FeaturePairDataset(str(tmp_path), MODEL, ann_file=str(tmp_path / 'list.txt'))
    assert dataset.names == ['VOC2012/5.jpg', 'VOC2012/0.jpg']
    assert messages == ['2 of 4 listed images have no pair, such as VOC2012/3.jpg']
    first = FeaturePairDataset(str(tmp_path), MODEL, ann_file=str(tmp_path / 'list.txt'), indices=1)
    assert first.names == ['VOC2012/5.jpg']


def test_the_list_of_stage_1_gives_the_first_images(tmp_path):
    names = write_pairs(tmp_path, 4).names
    pairs = FeaturePairs(tmp_path, MODEL)
    pairs.write_list([names[2], names[0]])
    pairs.write_list([names[0], names[3], names[1]])  # of a second run over more images
    assert FeaturePairDataset(str(tmp_path), MODEL).names == [names[2], names[0], names[3], names[1]]
    assert FeaturePairDataset(str(tmp_path), MODEL, indices=2).names == [names[2], names[0]]


def test_targets_of_another_solver_raise(tmp_path):
    write_pairs(tmp_path, 2, solver='closed-form', profile=None)
    assert len(FeaturePairDataset(str(tmp_path), MODEL, made_with=dict(solver='closed-form'))) == 2
    with pytest.raises(UserError, match=r'were made with solver=closed-form, not field; take the config'):
        FeaturePairDataset(str(tmp_path), MODEL, made_with=dict(solver='field', profile='paper'))
    write_pairs(tmp_path / 'released', 2)  # without this metadata
    assert len(FeaturePairDataset(str(tmp_path / 'released'), MODEL, made_with=dict(solver='field'))) == 2


def test_invalid_pairs_raise(tmp_path):
    with pytest.raises(UserError, match='holds no pair of nobody; write them with'):
        FeaturePairDataset(str(tmp_path), 'nobody')
    with pytest.raises(UserError, match='list none.txt cannot be read'):
        FeaturePairDataset(str(tmp_path), MODEL, ann_file='none.txt')
    pairs = write_pairs(tmp_path)
    other = np.zeros((2, 2, 64))
    pairs.write('VOC2012/4.jpg', other, other)
    with pytest.raises(UserError, match='VOC2012/4.jpg: features have shape'):
        FeaturePairDataset(str(tmp_path), MODEL)[4]


@pytest.mark.parametrize(
    ('changed', 'message'),
    [
        (dict(size=(48, 48)), r'input_size=\[32, 48\], not \(48, 48\)'),
        (dict(mean=[127.5] * 3), r'mean=\[128, 128, 128\], not \[127.5, 127.5, 127.5\]'),
        (dict(std=[1, 64, 64]), r'std=\[64, 64, 64\], not \[1, 64, 64\]'),
        (dict(interpolation='bilinear'), 'resize_interpolation=bicubic, not bilinear'),
    ],
)
def test_images_prepared_differently_from_those_of_the_targets_raise(tmp_path, changed, message):
    how = dict(size=(32, 48), mean=[128] * 3, std=[64] * 3)
    meta = dict(input_size=how['size'], mean=how['mean'], std=how['std'], resize_interpolation='bicubic')
    write_pairs(tmp_path, 2, grid=(2, 3), **meta)
    with pytest.raises(UserError, match=f'the targets were made with {message}'):
        FeaturePairDataset(str(tmp_path), MODEL, image_root=str(tmp_path), image=how | changed)
    assert len(FeaturePairDataset(str(tmp_path), MODEL, image_root=str(tmp_path), image=how)) == 2


def test_images_are_prepared_as_those_of_the_targets_by_default(tmp_path):
    """Only ``image_root`` is required."""
    how = dict(input_size=48, mean=[128.0] * 3, std=[64.0] * 3, resize_interpolation='bilinear')
    write_pairs(tmp_path, 1, grid=(3, 3), **how)
    pixels = np.random.default_rng(0).integers(256, size=(40, 50, 3), dtype=np.uint8)
    (tmp_path / 'VOC2012').mkdir()
    cv2.imwrite(str(tmp_path / 'VOC2012/0.jpg'), pixels)
    expected = prepare_image(read_image(tmp_path / 'VOC2012/0.jpg'), (48, 48), how['mean'], how['std'], 'bilinear')
    for given in (None, dict(mean=[128, 128, 128]), dict(size=(48, 48))):
        sample = FeaturePairDataset(str(tmp_path), MODEL, image_root=str(tmp_path), image=given)[0]
        assert torch.equal(sample['image'], expected)


def test_a_truncated_image_raises_in_dataset_and_hook(tmp_path):
    """OpenCV's imread would complete it with grey."""
    pairs = write_pairs(tmp_path, 1)
    content = cv2.imencode('.jpg', np.random.default_rng(0).integers(256, size=(40, 50, 3), dtype=np.uint8))[
        1
    ].tobytes()
    (tmp_path / 'VOC2012').mkdir()
    (tmp_path / pairs.names[0]).write_bytes(content[: len(content) // 2])
    how = dict(size=(42, 56), mean=[1] * 3, std=[1] * 3)
    with pytest.raises(UnreadableSample, match=r'VOC2012/0\.jpg cannot be read: the file is truncated'):
        FeaturePairDataset(str(tmp_path), MODEL, image_root=str(tmp_path), image=how)[0]
    hook = DenoiserVisualizationHook(image_root=str(tmp_path))
    with pytest.raises(UnreadableSample, match=r'VOC2012/0\.jpg cannot be read: the file is truncated'):
        hook.draw(DenoiserTraining(NECK), FeaturePairDataset(str(tmp_path), MODEL))


def test_missing_and_invalid_settings_of_images_raise_immediately(tmp_path):
    write_pairs(tmp_path, 2)

    def load(**image):
        return FeaturePairDataset(str(tmp_path), MODEL, image_root=str(tmp_path), image=image)

    complete = dict(size=(42, 56), mean=[1] * 3, std=[1] * 3)
    assert len(load(**complete)) == 2
    with pytest.raises(UserError, match=r'\.json has no mean of the images; set train_dataloader'):
        load(std=[1] * 3)
    with pytest.raises(UserError, match='image.means is unknown; use size, mean, std, interpolation'):
        load(means=[1] * 3)
    with pytest.raises(UserError, match="image.interpolation='cubic': use bicubic, bilinear"):
        load(**complete, interpolation='cubic')
    with pytest.raises(UserError, match='image_root nowhere does not exist'):
        FeaturePairDataset(str(tmp_path), MODEL, image_root='nowhere', image=complete)
    for file in (tmp_path / 'raw_features').rglob('1.jpg.npy'):
        file.unlink()
    raw = FeaturePairDataset(str(tmp_path), MODEL, image_root=str(tmp_path), image=complete, target='raw')
    assert raw.names == ['VOC2012/0.jpg']
