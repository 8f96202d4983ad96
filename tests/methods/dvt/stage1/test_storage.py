"""Stored pairs of raw and denoised features."""

import json
import os
import signal

import numpy as np
import pytest

from reprefine.engine.errors import UserError
from reprefine.methods.dvt.stage1.storage import DENOISED, RAW, FeaturePairs, model_folder
from tests.helpers.forked import exit_code

NAMES = ['VOC2012/JPEGImages/a.v1.jpg', 'VOC2012/JPEGImages/b.jpg']


def maps(seed=0, shape=(3, 4, 5)):
    return np.random.default_rng(seed).normal(size=(2, *shape)).astype(np.float32)


def test_pairs_return_as_they_were_written(tmp_path):
    pairs = FeaturePairs(tmp_path, 'vit', NAMES)
    raw, denoised = maps()
    pairs.write(NAMES[0], raw, denoised)
    assert np.array_equal(pairs.raw(NAMES[0]), raw)
    assert np.array_equal(pairs.denoised(NAMES[0]), denoised)
    assert (tmp_path / 'raw_features/vit/VOC2012/JPEGImages/a.v1.jpg.npy').is_file()
    assert [pairs.is_complete(name) for name in NAMES] == [True, False]
    assert FeaturePairs(tmp_path, 'vit').names == NAMES[:1]


def test_a_leading_axis_is_accepted(tmp_path):
    pairs = FeaturePairs(tmp_path, 'vit', NAMES)
    raw, denoised = maps()
    pairs.write(NAMES[0], raw, denoised)
    np.save(pairs.path(DENOISED, NAMES[0]), denoised[None])
    assert np.array_equal(pairs.denoised(NAMES[0]), denoised)
    assert pairs.is_complete(NAMES[0])
    np.save(pairs.path(DENOISED, NAMES[0]), denoised[None].repeat(2, 0))
    assert not pairs.is_complete(NAMES[0])


def test_half_precision_costs_less_than_a_thousandth(tmp_path):
    pairs = FeaturePairs(tmp_path, 'vit', NAMES, dtype='float16')
    raw, denoised = maps()
    pairs.write(NAMES[0], raw, denoised)
    stored = pairs.denoised(NAMES[0])
    assert pairs.path(RAW, NAMES[0]).stat().st_size < raw.nbytes / 2 + 200
    assert stored.dtype == np.float32
    assert 0 < np.abs(stored - denoised).max() / np.abs(denoised).max() < 1e-3


@pytest.mark.parametrize('value', [np.nan, 1e6])
def test_numbers_that_are_not_finite_raise(tmp_path, value):
    pairs = FeaturePairs(tmp_path, 'vit', NAMES, dtype='float16')
    raw, denoised = maps()
    denoised[1, 2, 3] = value
    with pytest.raises(UserError, match='b.jpg: denoised_features are not finite in float16'):
        pairs.write(NAMES[1], raw, denoised)
    assert not list(tmp_path.rglob('*.npy'))


def test_truncated_files_are_stored_but_not_complete(tmp_path):
    pairs = FeaturePairs(tmp_path, 'vit', NAMES)
    pairs.write(NAMES[0], *maps())
    file = pairs.path(RAW, NAMES[0])
    file.write_bytes(file.read_bytes()[:-8])
    assert not pairs.is_complete(NAMES[0])
    with pytest.raises(UserError, match='is not a valid array'):
        pairs.raw(NAMES[0])
    with pytest.raises(UserError, match='does not exist'):
        pairs.raw(NAMES[1])
    assert FeaturePairs(tmp_path, 'vit').names == NAMES[:1]  # training raises instead of skipping it


def write_and_be_killed(folder):
    """Write a pair; the process is killed while numpy writes the first array."""

    def write_half(file, array, **kwargs):
        file.write(b'half')
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)

    np.lib.format.write_array = np.lib._npyio_impl.format.write_array = write_half
    FeaturePairs(folder, 'vit', ['b.jpg']).write('b.jpg', *maps())


def test_a_killed_writer_leaves_no_half_file(tmp_path):
    """The temporary file of numpy is not read as features."""
    assert exit_code(write_and_be_killed, tmp_path) == -signal.SIGKILL
    assert [file.read_bytes() for file in tmp_path.rglob('*.npy')] == [b'half']
    pairs = FeaturePairs(tmp_path, 'vit')
    assert not pairs.path(RAW, 'b.jpg').exists()
    assert pairs.names == []
    assert not pairs.is_complete('b.jpg')


@pytest.mark.parametrize('name', ['/etc/passwd', '../a.jpg', 'a/../../b.jpg', ''])
def test_names_stay_below_the_folder(tmp_path, name):
    with pytest.raises(UserError, match='is not a path below the data root'):
        FeaturePairs(tmp_path, 'vit', [name])


def test_an_image_listed_twice_raises(tmp_path):
    with pytest.raises(UserError, match='b.jpg is listed twice'):
        FeaturePairs(tmp_path, 'vit', ['b.jpg', 'a.jpg', 'b.jpg'])


def test_features_of_other_metadata_are_not_overwritten(tmp_path):
    pairs = FeaturePairs(tmp_path, model_folder('vit', 7, 14))
    assert pairs.meta_file == tmp_path / 'vit_s7.json'
    pairs.write_meta(dict(size=(28, 42), solver='field', version='1'))
    pairs.write_meta(dict(size=(28, 42), solver='field', version='2'))
    with pytest.raises(UserError, match='made with solver=field, not closed-form'):
        pairs.write_meta(dict(size=(28, 42), solver='closed-form', version='2'))
    assert json.loads(pairs.meta_file.read_text()) == dict(size=[28, 42], solver='field', version='2')
    assert model_folder('vit', 14, 14) == 'vit'
