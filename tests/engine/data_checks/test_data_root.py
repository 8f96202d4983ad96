"""--data-root on official configs of the four OpenMMLab libraries, and missing data folders."""

from pathlib import Path

import mmengine
import pytest
from mmengine.config import Config

from reprefine.engine.data_checks.data_root import check_data_folders, set_data_root
from reprefine.engine.errors import UserError

PACKAGES = Path(mmengine.__file__).parents[1]


def official(path: str) -> Config:
    package, name = path.split('/', 1)
    return Config.fromfile(PACKAGES / package / '.mim/configs' / name)


def strings(node) -> list[str]:
    if isinstance(node, dict):
        return [text for value in node.values() for text in strings(value)]
    if isinstance(node, list | tuple):
        return [text for value in node for text in strings(value)]
    return [node] if isinstance(node, str) else []


@pytest.mark.parametrize(
    ('config', 'old'),
    [
        ('mmpretrain/resnet/resnet50_8xb32_in1k.py', 'data/imagenet'),
        ('mmpretrain/resnet/resnet18_8xb16_cifar10.py', 'data/cifar10'),
        ('mmpretrain/mocov2/mocov2_resnet50_8xb32-coslr-200e_in1k.py', 'data/imagenet'),
        ('mmpretrain/arcface/resnet50-arcface_8xb32_inshop.py', 'data/inshop'),
        ('mmdet/retinanet/retinanet_r50_fpn_1x_coco.py', 'data/coco'),
        ('mmdet/mask_rcnn/mask-rcnn_r50_fpn_ms-poly-3x_coco.py', 'data/coco'),
        ('mmdet/pascal_voc/faster-rcnn_r50_fpn_1x_voc0712.py', 'data/VOCdevkit'),
        ('mmdet/lvis/mask-rcnn_r50_fpn_sample1e-3_ms-1x_lvis-v1.py', 'data/lvis_v1'),
        ('mmseg/segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py', 'data/ade/ADEChallengeData2016'),
        ('mmseg/fcn/fcn_r50-d8_4xb4-20k_voc12aug-512x512.py', 'data/VOCdevkit/VOC2012'),
        ('mmpose/body_2d_keypoint/topdown_heatmap/coco/td-hm_res50_8xb64-210e_coco-256x192.py', 'data/coco'),
        ('mmpose/body_2d_keypoint/rtmo/coco/rtmo-s_8xb32-600e_coco-640x640.py', 'data'),
        ('mmpose/face_2d_keypoint/topdown_heatmap/wflw/td-hm_hrnetv2-w18_8xb64-60e_wflw-256x256.py', 'data/wflw'),
    ],
)
def test_every_path_moves_and_nothing_else(config, old):
    cfg = official(config)
    before = strings(cfg.to_dict())
    set_data_root(cfg, 'elsewhere/toy/')
    after = strings(cfg.to_dict())
    expected = [
        'elsewhere/toy' + text[len(old) :] if text.startswith(f'{old}/') or text == old else text for text in before
    ]
    assert after == expected
    assert after != before


def test_named_places():
    cfg = official('mmdet/mask_rcnn/mask-rcnn_r50_fpn_ms-poly-3x_coco.py')
    set_data_root(cfg, '/sets/toy')
    assert cfg.data_root == '/sets/toy/'
    assert cfg.train_dataloader.dataset.dataset.data_root == '/sets/toy/'
    assert cfg.val_dataloader.dataset.data_root == '/sets/toy/'
    assert cfg.test_evaluator.ann_file == '/sets/toy/annotations/instances_val2017.json'
    # Relative to the root, hence untouched.
    assert cfg.val_dataloader.dataset.ann_file == 'annotations/instances_val2017.json'


def test_paths_of_pipelines_and_wrappers():
    prefix = dict(img_path='data/a/i')
    inner = dict(type='CocoDataset', data_root='data/a', ann_file='data/a/x.json', data_prefix=prefix)
    pipeline = [dict(type='Paste', bank='data/a/bank', other='data/ab'), dict(type='Stack', names=['data/a/n', 'a'])]
    repeated = dict(type='RepeatDataset', dataset=inner, times=2)
    wrapped = dict(type='ConcatDataset', datasets=[repeated], pipeline=pipeline)
    cfg = Config(dict(train_dataloader=dict(dataset=wrapped), load_from='data/a/model.pth', work_dir='data/a/runs'))
    set_data_root(cfg, 'b')
    dataset = cfg.train_dataloader.dataset
    assert dataset.datasets[0].dataset.to_dict() == dict(
        type='CocoDataset', data_root='b', ann_file='b/x.json', data_prefix=dict(img_path='b/i')
    )
    assert dataset.pipeline[0].to_dict() == dict(type='Paste', bank='b/bank', other='data/ab')
    assert dataset.pipeline[1].names == ['b/n', 'a']
    assert (cfg.load_from, cfg.work_dir) == ('data/a/model.pth', 'data/a/runs')


def test_prefix_in_place_of_a_root():
    cfg = Config(dict(test_dataloader=dict(dataset=dict(type='CIFAR10', data_prefix='data/cifar10', test_mode=True))))
    set_data_root(cfg, 'toy')
    assert cfg.test_dataloader.dataset.data_prefix == 'toy'


def test_root_inside_another_moves_with_it():
    roots = ['data/set/', 'data/set/extra']
    datasets = [dict(type='CocoDataset', data_root=root) for root in roots]
    cfg = Config(dict(train_dataloader=dict(dataset=dict(type='ConcatDataset', datasets=datasets))))
    set_data_root(cfg, 'toy')
    assert [item.data_root for item in cfg.train_dataloader.dataset.datasets] == ['toy/', 'toy/extra']


def test_several_roots_are_listed():
    cfg = official('mmpose/body_2d_keypoint/topdown_heatmap/coco/td-hm-vis_res50_8xb64-210e_coco-aic-256x192-merge.py')
    before = cfg.to_dict()
    with pytest.raises(UserError, match="2 data roots.*= 'data/coco'.*= 'data/aic'"):
        set_data_root(cfg, 'toy')
    assert cfg.to_dict() == before


def test_no_root():
    with pytest.raises(UserError, match='no dataset of this config has a data_root'):
        set_data_root(official('mmdet/retinanet/retinanet_tta.py'), 'toy')


def test_lazy_config_can_still_be_dumped(tmp_path):
    source = tmp_path / 'lazy.py'
    source.write_text(
        'from mmengine.dataset import BaseDataset\n'
        "train_dataloader = dict(dataset=dict(type=BaseDataset, data_root='data/x/', ann_file='a.json'))\n"
    )
    cfg = Config.fromfile(source)
    set_data_root(cfg, 'toy')
    cfg.dump(tmp_path / 'dumped.py')
    dataset = Config.fromfile(tmp_path / 'dumped.py').train_dataloader.dataset
    assert dataset.to_dict() == dict(type='mmengine.dataset.BaseDataset', data_root='toy/', ann_file='a.json')


def loader(**dataset):
    return Config(dict(default_scope='mmengine', train_dataloader=dict(dataset=dataset)))


def test_missing_data_folder_is_named_with_its_place(tmp_path):
    nested = dict(type='RepeatDataset', dataset=dict(type='BaseDataset', data_root=f'{tmp_path}/gone'))
    with pytest.raises(UserError, match=f'train_dataloader.dataset.dataset.data_root: folder {tmp_path}/gone does not'):
        check_data_folders(loader(**nested), ['train_dataloader'])


@pytest.mark.parametrize('root', ['', None, 's3://bucket/x', '.'])
def test_other_roots_pass(root):
    check_data_folders(loader(type='BaseDataset', data_root=root), ['train_dataloader', 'val_dataloader'])


@pytest.mark.parametrize('name', [dict(type='mmpretrain.CIFAR10'), dict(type='CIFAR10', _scope_='mmpretrain')])
def test_dataset_that_downloads_needs_no_folder(tmp_path, name):
    cifar = dict(name, data_root=f'{tmp_path}/gone')
    check_data_folders(loader(**cifar), ['train_dataloader'])
    with pytest.raises(UserError, match='gone'):
        check_data_folders(loader(**cifar, download=False), ['train_dataloader'])


def test_everything_that_a_half_unpacked_dataset_lacks_is_listed(tmp_path):
    (tmp_path / 'train2017').mkdir()
    prefix = dict(img='train2017/', panoptic='panoptic/')
    node = dict(type='CocoDataset', data_root=str(tmp_path), ann_file='annotations/train.json', data_prefix=prefix)
    cfg = Config(dict(train_dataloader=dict(dataset=dict(type='RepeatDataset', dataset=node))))
    with pytest.raises(UserError) as error:
        check_data_folders(cfg, ['train_dataloader'])
    assert str(error.value) == (
        f'train_dataloader.dataset.dataset: {tmp_path} lacks ann_file annotations/train.json, data_prefix.panoptic '
        'panoptic/; unpack the rest there or give --data-root'
    )
    (tmp_path / 'annotations').mkdir()
    (tmp_path / 'annotations' / 'train.json').touch()
    (tmp_path / 'panoptic').mkdir()
    check_data_folders(cfg, ['train_dataloader'])


@pytest.mark.parametrize('kind', ['BaseDataset', 'reprefine.CelebAMaskHQ'])
def test_a_byte_order_mark_before_the_first_name_is_refused(tmp_path, kind):
    (tmp_path / 'train.txt').write_text('a\nb\n', encoding='utf-8-sig')
    cfg = loader(type=kind, data_root=str(tmp_path), ann_file='train.txt')
    with pytest.raises(UserError) as error:
        check_data_folders(cfg, ['train_dataloader'])
    assert str(error.value) == (
        f'train_dataloader.dataset.ann_file: {tmp_path}/train.txt begins with a byte-order mark: save it as UTF-8 '
        'without one'
    )
    (tmp_path / 'train.txt').write_text('a\nb\n')
    check_data_folders(cfg, ['train_dataloader'])


def test_datasets_of_this_package_check_themselves_what_they_lack(tmp_path):
    node = dict(type='reprefine.CelebAMaskHQ', data_root=str(tmp_path), ann_file='train_celebahqmask.txt')
    check_data_folders(Config(dict(train_dataloader=dict(dataset=node))), ['train_dataloader'])
