import json
import logging

import pytest
from mmdet.datasets import CocoDataset, VOCDataset
from mmengine.dataset import ConcatDataset, RepeatDataset
from mmengine.logging import MMLogger
from mmpretrain.datasets import CustomDataset
from PIL import Image

from reprefine.engine.data_checks.class_names import check_class_names, check_same_numbers
from reprefine.engine.errors import UserError
from reprefine.tasks.reid import Market1501
from tests.tasks.reid.photos import MARKET, write_folders


def load(kind, folder, **options):
    return kind(ann_file=str(folder / 'a.json'), data_prefix=dict(img=str(folder)), pipeline=[], **options)


def coco(folder, classes, categories=('cat', 'dog', 'fish')):
    content = dict(
        images=[dict(id=1, file_name='a.jpg', width=9, height=9)],
        annotations=[
            dict(id=number, image_id=1, category_id=10 * number, bbox=[1, 1, 4, 4], area=16, iscrowd=0)
            for number in range(1, 1 + len(categories))
        ],
        categories=[dict(id=10 * number, name=name) for number, name in enumerate(categories, 1)],
    )
    (folder / 'a.json').write_text(json.dumps(content))
    return load(CocoDataset, folder, metainfo=dict(classes=classes))


@pytest.mark.parametrize('classes', [('cat', 'dog', 'fish'), ('cat', 'fish'), ('dog',)])
def test_categories_in_the_order_of_the_file_pass(tmp_path, classes):
    dataset = coco(tmp_path, classes)
    check_class_names(dataset)
    assert len(dataset.get_cat_ids(0)) == len(classes)


def test_a_name_without_a_category_is_refused(tmp_path):
    dataset = coco(tmp_path, ('kat', 'dog', 'fish'))
    assert dataset.get_cat_ids(0) == [0, 1]  # what mmdet makes of it: dog is called kat
    with pytest.raises(UserError) as error:
        check_class_names(RepeatDataset(dataset, 2))
    assert str(error.value) == (
        f'metainfo.classes names kat, but the categories of {tmp_path}/a.json are cat, dog, fish: correct the name, or '
        'leave it out; the classes after it would be numbered wrongly'
    )


def test_another_order_than_that_of_the_categories_is_refused(tmp_path):
    with pytest.raises(UserError, match='has the order fish, cat, but the categories of .*a.json cat, fish, which'):
        check_class_names(coco(tmp_path, ('fish', 'cat')))


def test_the_names_of_the_dataset_itself_are_checked_by_their_number(tmp_path):
    class Pets(CocoDataset):
        METAINFO = dict(classes=('cat', 'dog', 'bird'))

    coco(tmp_path, ('cat',))
    with pytest.raises(UserError, match='names bird, but the categories of .* are cat, dog, fish'):
        check_class_names(load(Pets, tmp_path))


def voc(folder, classes, names):
    for part in ('JPEGImages', 'Annotations', 'ImageSets'):
        (folder / 'VOC2012' / part).mkdir(parents=True)
    image = folder / 'VOC2012' / 'JPEGImages' / 'a.jpg'
    Image.new('RGB', (9, 9)).save(image)
    box = '<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>5</xmax><ymax>5</ymax></bndbox>'
    objects = ''.join(f'<object><name>{name}</name><difficult>0</difficult>{box}</object>' for name in names)
    size = '<size><width>9</width><height>9</height></size>'
    (folder / 'VOC2012/Annotations/a.xml').write_text(f'<annotation>{size}{objects}</annotation>')
    (folder / 'VOC2012/ImageSets/a.txt').write_text('a\n')
    return VOCDataset(
        ann_file=str(folder / 'VOC2012/ImageSets/a.txt'),
        data_prefix=dict(sub_data_root=str(folder / 'VOC2012')),
        metainfo=dict(classes=classes),
        pipeline=[],
    )


@pytest.mark.parametrize(('name', 'annotated'), [('aeroplan', 'aeroplane'), ('traffic-light', 'Traffic light')])
def test_objects_of_a_misspelt_class_are_refused(tmp_path, name, annotated):
    dataset = voc(tmp_path, ('cat', name), ['cat', annotated, annotated])
    assert dataset.get_cat_ids(0) == [0]  # left out without a word
    with pytest.raises(UserError, match=rf'class {name} has no object, and {annotated} \(2 objects\) is no class and'):
        check_class_names(dataset)


def test_other_objects_are_warned_of_when_a_class_has_none(tmp_path, caplog):
    MMLogger.get_instance('class_names').addHandler(caplog.handler)
    with caplog.at_level(logging.WARNING):
        check_class_names(voc(tmp_path, ('cat', 'dog'), ['cat', 'sofa']))
    assert 'class dog has no object, and sofa (1 objects) is no class' in caplog.text


@pytest.mark.parametrize('names', [['cat'], ['cat', 'dog', 'sofa']])
def test_classes_without_objects_and_objects_of_no_class_pass_alone(tmp_path, caplog, names):
    MMLogger.get_instance('class_names').addHandler(caplog.handler)
    with caplog.at_level(logging.WARNING):
        check_class_names(voc(tmp_path, ('cat', 'dog'), names))
    assert caplog.text == ''


def folders(folder, classes=None, names=('cat', 'dog', 'fish')):
    for name in names:
        (folder / name).mkdir(parents=True)
        Image.new('RGB', (9, 9)).save(folder / name / 'a.jpg')
    return CustomDataset(data_prefix=str(folder), metainfo=dict(classes=classes) if classes else None, pipeline=[])


@pytest.mark.parametrize('classes', [None, ('cat', 'dog', 'fish'), ('Felis', 'Canis', 'Pisces')])
def test_folders_in_their_order_and_other_names_pass(tmp_path, classes):
    check_class_names(folders(tmp_path, classes))


def test_folders_that_are_numbered_otherwise_are_refused(tmp_path):
    dataset = folders(tmp_path, ('fish', 'dog', 'cat'))
    with pytest.raises(UserError) as error:
        check_class_names(dataset)
    assert str(error.value) == (
        f"metainfo.classes calls class 0 'fish', but in {tmp_path} folder 'cat' has that number (folders are numbered "
        'by name): give the classes as cat, dog, fish'
    )


def test_folders_that_training_numbers_otherwise_are_refused(tmp_path):
    train, val = folders(tmp_path / 'train'), folders(tmp_path / 'val', names=('dog', 'fish'))
    with pytest.raises(UserError, match="'dog' has the number 0 in CustomDataset for evaluation, but 1 in training"):
        check_same_numbers(RepeatDataset(train, 2), val)
    check_same_numbers(train, train)
    check_same_numbers(train, folders(tmp_path / 'other', names=('cat', 'dog')))
    check_same_numbers(train, folders(tmp_path / 'foreign', names=('ant', 'bee')))


def test_concatenated_identities_of_two_sets_are_refused(tmp_path):
    sets = [Market1501(write_folders(tmp_path / name, MARKET), pipeline=[]) for name in ('a', 'b')]
    check_class_names(ConcatDataset(sets[:1]))
    with pytest.raises(
        UserError, match='Market1501 and Market1501 are concatenated by ConcatDataset, but .*MergedReID'
    ):
        check_class_names(ConcatDataset(sets))
