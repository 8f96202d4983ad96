import json

import pytest

from reprefine.engine.errors import UserError
from reprefine.tasks.object_discovery.datasets import CocoImageList, read_image_ids


def test_all_formats_of_image_names_are_read(tmp_path):
    file = tmp_path / 'list.txt'
    file.write_text('COCO_train2014_000000000009.jpg\n\ntrain2017/000000000030.jpg\n25\n')
    assert read_image_ids(file) == {9, 25, 30}


@pytest.mark.parametrize(
    ('content', 'message'), [(None, 'does not exist'), ('\n', 'is empty'), ('000009.jpg\nnine.jpg\n', "'nine.jpg'")]
)
def test_a_bad_list_is_refused(tmp_path, content, message):
    file = tmp_path / 'list.txt'
    if content is not None:
        file.write_text(content)
    with pytest.raises(UserError, match=message):
        read_image_ids(file)


@pytest.fixture
def coco(tmp_path):
    images = [dict(id=number, file_name=f'{number:012}.jpg', height=8, width=8) for number in (9, 25, 30)]
    annotations = [dict(id=1, image_id=25, category_id=1, bbox=[1, 1, 4, 4], area=16, iscrowd=0)]
    content = dict(images=images, annotations=annotations, categories=[dict(id=1, name='person')])
    (tmp_path / 'instances.json').write_text(json.dumps(content))

    def build(names: str) -> CocoImageList:
        (tmp_path / 'list.txt').write_text(names)
        return CocoImageList(
            image_list='list.txt',
            data_root=str(tmp_path),
            ann_file='instances.json',
            data_prefix=dict(img='train2017/'),
            test_mode=True,
        )

    return build


def test_images_of_the_list_are_kept(coco):
    dataset = coco('COCO_train2014_000000000030.jpg\nCOCO_train2014_000000000025.jpg\n')
    assert [dataset.get_data_info(index)['img_id'] for index in range(len(dataset))] == [25, 30]
    assert len(dataset.get_data_info(0)['instances']) == 1


def test_images_that_the_annotations_lack_are_named(coco):
    with pytest.raises(UserError, match=r'lacks 1 images of .* such as id 7'):
        coco('000000000009.jpg\n000000000007.jpg\n')
