import json

import pytest
from mmpretrain.datasets import CustomDataset
from toy_data import make_toy_data

from reprefine.tasks.classification.image_lists import class_counts, read_list
from reprefine.tasks.classification.prepare.inaturalist import read_annotations
from tests.helpers.run_tool import run_tool

TOOL = 'dataset_tools/prepare_inaturalist.py'


@pytest.fixture(scope='module')
def toy(tmp_path_factory):
    return make_toy_data(tmp_path_factory.mktemp('toy'), ['inaturalist2018'])[0]


@pytest.fixture
def root(tmp_path):
    """Two images of category 7 and one of 8141, in each split."""
    for split in ('train', 'val'):
        names = [f'train_val2018/Aves/{category}/{split}{n}.jpg' for n, category in enumerate((7, 8141, 7))]
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        content = dict(
            images=[dict(id=n, file_name=name) for n, name in enumerate(names)],
            annotations=[dict(id=9, image_id=n, category_id=c) for n, c in ((2, 7), (0, 7), (1, 8141))],
        )
        (tmp_path / f'{split}2018.json').write_text(json.dumps(content))
    return tmp_path


def test_categories_go_by_image_not_by_order(root):
    assert [label for _, label in read_annotations(root / 'train2018.json')] == [7, 8141, 7]
    assert run_tool(TOOL, root) == 0
    assert (root / 'meta' / 'val2018.txt').read_text() == (
        'train_val2018/Aves/7/val0.jpg 7\ntrain_val2018/Aves/8141/val1.jpg 8141\ntrain_val2018/Aves/7/val2.jpg 7\n'
    )


def test_toy_data_have_a_long_tail_and_labels_that_their_folders_name(toy, capsys):
    assert run_tool(TOOL, toy) == 0
    assert 'note: the complete dataset has 437,513 training and 24,426 validation images' in capsys.readouterr().out
    sizes = class_counts(read_list(toy / 'meta' / 'train2018.txt'))
    sizes = sorted(sizes[sizes > 0])
    assert (len(sizes), sizes[0], sizes[-1]) == (20, 2, 110)
    dataset = CustomDataset(data_root=str(toy), ann_file='meta/val2018.txt')
    assert len(dataset) == 60
    assert all(str(s['gt_label']) == s['img_path'].split('/')[-2] for s in dataset)


@pytest.mark.parametrize(
    ('file', 'content', 'message'),
    [
        ('val2018.json', None, 'val2018.json does not exist; unpack the annotations'),
        ('val2018.json', '{"images": [', 'val2018.json is corrupted or not an annotation file'),
        ('val2018.json', '{"images": []}', 'val2018.json is corrupted or not an annotation file'),
        (
            'val2018.json',
            '{"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": []}',
            '1 images have no category, such as a.jpg',
        ),
        ('train_val2018/Aves/7/train0.jpg', None, 'lacks train_val2018/Aves/7/train0.jpg of train2018.json'),
    ],
)
def test_what_is_missing_is_named(root, capsys, file, content, message):
    (root / file).unlink() if content is None else (root / file).write_text(content)
    assert run_tool(TOOL, root) == 1
    assert message in capsys.readouterr().err
    assert not (root / 'meta').exists()
