"""Reading of score files, of reprefine and of the released code."""

import json
import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose

from reprefine.engine.errors import UserError
from reprefine.methods.feature_transform import read_run
from reprefine.methods.feature_transform.score_files import read_published_file, write_block

RNG = np.random.default_rng(0)


def published(folder, *batches, start=1):
    """Write epochs as the released code does; each argument lists the batch sizes of one epoch."""
    folder.mkdir(parents=True, exist_ok=True)
    epochs = [[RNG.random((size, 5)).astype(np.float32) for size in sizes] for sizes in batches]
    for index, epoch in enumerate(epochs, start):
        if len({len(batch) for batch in epoch}) == 1:
            array = np.stack(epoch)
        else:
            array = np.empty(len(epoch), object)
            array[:] = epoch
        np.save(folder / f'score_{index:03d}.npy', array)
    return [batch.astype(np.float64) for epoch in epochs for batch in epoch]


@pytest.mark.parametrize('batches', [([4, 4, 4], [4, 4, 4]), ([4, 4, 3], [4, 4, 3])], ids=['even', 'ragged'])
def test_published_files_are_reduced_as_in_the_notebook(batches, tmp_path):
    rows = published(tmp_path / 'scores', *batches)
    run = read_run(tmp_path)
    assert run.iters.tolist() == [1, 2, 3, 4, 5, 6]
    assert_allclose(run.epochs, np.arange(1, 7) / 3)
    expected = dict(
        neg_mean=[row[:, 0].mean() for row in rows],
        neg_var=[row[:, 1].mean() for row in rows],
        pos_mean=[row[:, 2].mean() for row in rows],
        pos_var=[np.mean((row[:, 2] - row[:, 2].mean()) ** 2) for row in rows],
        exp_neg=[row[:, 3].mean() for row in rows],
        exp_pos=[row[:, 4].mean() for row in rows],
    )
    assert run.values.keys() == expected.keys()
    for key, values in expected.items():
        assert_allclose(run.values[key], values, rtol=1e-12)


def test_files_are_in_the_order_of_their_numbers(tmp_path):
    for epoch in (1, 2, 999, 1000, 10000):
        write_block(tmp_path / f'epoch_{epoch:03d}.npz', np.array([epoch]), dict(pos_mean=np.array([1.0])), {})
    assert read_run(tmp_path).iters.tolist() == [1, 2, 999, 1000, 10000]


def test_round_trip_of_our_files(tmp_path):
    for epoch, iters in ((1, [1, 2]), (2, [3, 4]), (10, [5])):
        values = dict(pos_mean=np.array(iters) / 7, neg_var=np.array(iters) * 2.0)
        write_block(tmp_path / f'epoch_{epoch:03d}.npz', np.array(iters), values, dict(epoch_length=2))
    run = read_run(tmp_path)
    assert run.iters.tolist() == [1, 2, 3, 4, 5]
    assert_allclose(run.values['pos_mean'], np.arange(1, 6) / 7, rtol=1e-7)
    assert_allclose(run.epochs, np.arange(1, 6) / 2)
    assert run.name == tmp_path.name
    with np.load(tmp_path / 'epoch_001.npz', allow_pickle=False) as file:
        assert file['iter'].dtype == np.int64
        assert file['pos_mean'].dtype == np.float32
        assert json.loads(str(file['meta'])) == dict(epoch_length=2)
    assert sorted(path.suffix for path in tmp_path.iterdir()) == ['.npz'] * 3  # no temporary file is left


def test_epochs_are_read_in_the_order_of_their_numbers(tmp_path):
    """Also where text sorts otherwise, for both kinds of files."""
    (tmp_path / 'own').mkdir()
    for epoch in (998, 999, 1000, 1001):
        write_block(tmp_path / f'own/epoch_{epoch:03d}.npz', np.array([epoch]), dict(pos_mean=[epoch]), {})
    assert read_run(tmp_path / 'own').iters.tolist() == [998, 999, 1000, 1001]
    rows = published(tmp_path / 'published', *[[2]] * 4, start=998)
    run = read_run(tmp_path / 'published')
    assert_allclose(run.values['neg_mean'], [row[:, 0].mean() for row in rows], rtol=1e-12)


def test_two_hundred_epochs_stay_within_sixty_megabytes(tmp_path):
    from reprefine.methods.feature_transform.score_files import KEYS

    iters, values = np.arange(5004), {key: RNG.random(5004, np.float32) for key in KEYS}
    write_block(tmp_path / 'epoch_001.npz', iters, values, {})
    assert (tmp_path / 'epoch_001.npz').stat().st_size * 200 < 60e6


class Touch:
    """Runs code when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return exec, (f'open({str(self.path)!r}, "w")',)


def test_nothing_in_a_published_file_is_run(tmp_path):
    array = np.empty(1, object)
    array[0] = Touch(tmp_path / 'ran')
    np.save(tmp_path / 'score_001.npy', array, allow_pickle=True)
    with pytest.raises(UserError, match=r'score_001.npy is not a score file of the released code \(builtins.exec'):
        read_published_file(tmp_path / 'score_001.npy')
    assert not (tmp_path / 'ran').exists()
    with open(tmp_path / 'score_001.npy', 'rb') as file:  # the file does run it for others
        np.lib.format.read_magic(file), np.lib.format.read_array_header_1_0(file)
        pickle.load(file)
    assert (tmp_path / 'ran').exists()


@pytest.mark.parametrize(
    ('name', 'content', 'message'),
    [
        ('epoch_001.npz', b'PK\x03\x04 cut short', 'epoch_001.npz is corrupted or has no score statistics'),
        ('score_001.npy', b'nothing', 'score_001.npy is not a score file of the released code'),
        ('other.npz', b'', 'has no score statistics (score_stats/*.npz or score_*.npy)'),
    ],
)
def test_corrupted_or_other_files_are_named(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as error:
        read_run(tmp_path)
    assert message in str(error.value)


def test_other_mistakes_are_named(tmp_path):
    with pytest.raises(UserError, match='absent is not a folder'):
        read_run(tmp_path / 'absent')
    np.save(tmp_path / 'score_001.npy', np.zeros((3, 4, 6)))
    with pytest.raises(UserError, match=r'arrays \[iterations, batch, 5\]'):
        read_run(tmp_path)
    for epoch in (1, 2):
        write_block(tmp_path / 'score_stats' / f'epoch_{epoch:03d}.npz', np.array([1, 2]), {}, {})
    with pytest.raises(UserError, match='files of several runs, whose iterations overlap'):
        read_run(tmp_path / 'score_stats')
