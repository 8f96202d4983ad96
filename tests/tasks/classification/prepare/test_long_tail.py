import numpy as np
import pytest

from reprefine.engine.errors import UserError
from reprefine.tasks.classification.image_lists import class_counts, read_list, write_list
from reprefine.tasks.classification.prepare.long_tail import exponential_counts, long_tail
from tests.helpers.run_tool import run_tool


def samples_of(*sizes):
    return [(f'class {label}/{n}.jpg', label) for label, size in enumerate(sizes) for n in range(size)]


def test_counts_fall_geometrically():
    assert exponential_counts(np.full(3, 1000), 100).tolist() == [1000, 100, 10]
    counts = exponential_counts(np.full(100, 1280), 100)
    assert counts[[0, -1]].tolist() == [1280, 13]
    ratios = np.diff(np.log(counts[:50]))
    np.testing.assert_allclose(ratios, -np.log(100) / 99, atol=0.005)


def test_counts_are_at_least_one_and_at_most_all_images():
    assert exponential_counts(np.array([4, 50, 2]), 5).tolist() == [4, 22, 2]
    assert exponential_counts(np.full(3, 10), 1000).tolist() == [10, 1, 1]
    assert exponential_counts(np.array([7, 3, 5]), 1).tolist() == [7, 3, 5]


def test_long_tail_is_a_subset_in_the_order_of_the_list():
    samples = samples_of(100, 100, 0, 100)
    kept = long_tail(samples, 100, np.random.default_rng(0))
    assert kept == [sample for sample in samples if sample in set(kept)]
    assert sorted(class_counts(kept)) == [0, 1, 10, 100]


def test_the_seed_decides_which_classes_are_rare_and_which_images_stay():
    samples = samples_of(*[40] * 10)
    parts = [long_tail(samples, 10, np.random.default_rng(seed)) for seed in (0, 0, 1)]
    assert parts[0] == parts[1] != parts[2]
    sizes = [class_counts(part).tolist() for part in parts]
    assert sizes[0] != sizes[2]
    assert sorted(sizes[0]) == sorted(sizes[2])


def test_a_written_list_is_read_back(tmp_path):
    samples = [('a folder/with spaces.jpg', 3), ('b.jpg', 0)]
    write_list(samples, tmp_path / 'meta' / 'list.txt')
    assert read_list(tmp_path / 'meta' / 'list.txt') == samples
    assert class_counts(samples, at_least=6).tolist() == [1, 0, 0, 1, 0, 0]


def test_tool_writes_the_list(tmp_path, capsys):
    write_list(samples_of(100, 100, 100), tmp_path / 'all.txt')
    argv = ('dataset_tools/long_tail_list.py', tmp_path / 'all.txt', tmp_path / 'tail.txt')
    assert run_tool(*argv, '--imbalance', 100) == 0
    assert capsys.readouterr().out == f'{tmp_path}/tail.txt: 111 images of 3 classes, 1 to 100 per class\n'
    assert sorted(class_counts(read_list(tmp_path / 'tail.txt'))) == [1, 10, 100]


@pytest.mark.parametrize(
    ('content', 'options', 'message'),
    [
        (None, (), 'image list {} does not exist'),
        ('', (), 'image list {} is empty'),
        ('a.jpg 0\nb.jpg one\n', (), '{}, line 2: \'b.jpg one\' is not "path label"'),
        ('a.jpg 0\n7\n', (), '{}, line 2: \'7\' is not "path label"'),
        ('a.jpg 0\nb.jpg 0\n', (), 'a long-tailed list needs two classes or more, found 1'),
        ('a.jpg 0\nb.jpg 1\n', ('--imbalance', 0.5), 'imbalance 0.5: give the ratio'),
    ],
)
def test_tool_names_what_is_wrong(tmp_path, capsys, content, options, message):
    file = tmp_path / 'list.txt'
    if content is not None:
        file.write_text(content)
    assert run_tool('dataset_tools/long_tail_list.py', file, tmp_path / 'out.txt', *options) == 1
    assert message.format(file) in capsys.readouterr().err
    assert not (tmp_path / 'out.txt').exists()


def test_missing_image_lists_are_refused(tmp_path):
    with pytest.raises(UserError, match='does not exist'):
        read_list(tmp_path / 'list.txt')
