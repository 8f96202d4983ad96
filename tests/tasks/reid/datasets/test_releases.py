import logging
from pathlib import Path

import numpy as np
import pytest
from mmengine.dataset import ClassBalancedDataset, Compose
from mmengine.registry import DefaultScope
from PIL import Image

from reprefine.engine.cli.launch import load_config
from reprefine.engine.data_checks.data_root import check_data_folders
from reprefine.engine.errors import UserError
from reprefine.tasks.reid import CUHK03, MSMT17, DukeMTMC, Market1501, MergedReID

from .. import photos
from ..photos import write_folders, write_image, write_msmt17

ROOT = Path(__file__).parents[4]
BASELINES = ROOT / 'configs/baselines/reid'


def rows(dataset, *keys):
    return [tuple(info[key] for key in keys) for info in map(dataset.get_data_info, range(len(dataset)))]


def load_baseline(data, root, model='vit-small', size='256x128'):
    """Return the config of a baseline whose data are below ``root``."""
    return load_config(str(BASELINES / f'{model}_120e_{data}-{size}.py'), data_root=str(root))


def test_market_training_labels_are_contiguous(tmp_path):
    dataset = Market1501(write_folders(tmp_path, photos.MARKET))
    assert rows(dataset, 'pid', 'gt_label', 'camera', 'role') == [
        (2, 0, 0, 'train'),
        (2, 0, 2, 'train'),
        (7, 1, 5, 'train'),
    ]
    assert dataset[2]['img_path'] == str(tmp_path / 'bounding_box_train/0007_c6s2_000776_01.jpg')


def test_market_gallery_keeps_distractors_and_drops_junk(tmp_path):
    dataset = Market1501(write_folders(tmp_path, photos.MARKET), 'test')
    assert rows(dataset, 'pid', 'camera', 'role') == [
        (1, 0, 'query'),
        (3, 1, 'query'),
        (0, 3, 'gallery'),
        (1, 4, 'gallery'),
        (3, 5, 'gallery'),
    ]
    assert set(rows(dataset, 'gt_label')) == {(-1,)}


def test_duke(tmp_path):
    root = write_folders(tmp_path, photos.DUKE)
    assert rows(DukeMTMC(root), 'pid', 'gt_label', 'camera') == [(5, 0, 1), (5, 0, 7), (7140, 1, 0)]
    assert rows(DukeMTMC(root, 'test'), 'pid', 'camera', 'role') == [
        (6, 2, 'query'),
        (6, 6, 'gallery'),
        (139, 3, 'gallery'),
    ]


def test_cuhk03_has_two_kinds_of_boxes(tmp_path):
    root = write_folders(tmp_path, photos.CUHK03)
    assert rows(CUHK03(root), 'pid', 'gt_label', 'camera') == [(1, 0, 0), (9, 1, 1)]
    assert rows(CUHK03(root, boxes='detected'), 'pid', 'gt_label', 'camera') == [(4, 0, 1)]
    assert rows(CUHK03(root, 'test'), 'pid', 'camera', 'role') == [(3, 0, 'query'), (3, 1, 'gallery')]


@pytest.mark.parametrize('folders', [('train', 'test'), ('mask_train_v2', 'mask_test_v2')])
def test_msmt17_reads_either_release(tmp_path, folders):
    root = write_msmt17(tmp_path, folders)
    train = MSMT17(root)
    assert rows(train, 'pid', 'gt_label', 'camera') == [(0, 0, 0), (0, 0, 14), (1, 1, 6)]
    assert all(Path(path).is_file() for (path,) in rows(train, 'img_path'))
    assert rows(MSMT17(root, use_val=False), 'pid', 'camera') == [(0, 0), (0, 14)]
    assert rows(MSMT17(root, 'test'), 'pid', 'camera', 'role') == [
        (0, 4, 'query'),
        (0, 10, 'gallery'),
        (1, 13, 'gallery'),
    ]


def test_merged_keeps_identities_and_cameras_apart(tmp_path):
    parts = [
        dict(type='reprefine.MSMT17', data_root=write_msmt17(tmp_path / 'msmt17')),
        dict(type='reprefine.Market1501', data_root=write_folders(tmp_path / 'market', photos.MARKET)),
        dict(type='reprefine.DukeMTMC', data_root=write_folders(tmp_path / 'duke', photos.DUKE)),
    ]
    merged = MergedReID(parts)
    assert rows(merged, 'gt_label', 'pid', 'camera') == [
        *[(0, 0, 0), (0, 0, 14), (1, 1, 6)],
        # Offsets: 2 labels, identities up to 1, 15 cameras.
        *[(2, 4, 15), (2, 4, 17), (3, 9, 20)],
        # Offsets: 4 labels, identities up to 9, 21 cameras.
        *[(4, 15, 22), (4, 15, 28), (5, 7150, 21)],
    ]
    assert set(rows(merged, 'role')) == {('train',)}
    assert merged.num_labels == 6


def test_rare_identities_are_repeated_by_mmengine(tmp_path):
    market = dict(type='reprefine.Market1501', data_root=write_folders(tmp_path / 'market', photos.MARKET))
    for dataset in (Market1501(market['data_root']), MergedReID([market])):
        assert dataset.num_labels == 2  # of two images and of one
        balanced = ClassBalancedDataset(dataset, oversample_thr=4 / 3)
        labels = [balanced.get_data_info(index)['gt_label'] for index in range(len(balanced))]
        assert sorted(labels) == [0, 0, 0, 0, 1, 1]


def test_numbers_are_logged_once(tmp_path, caplog):
    from mmengine.logging import MMLogger

    logger = MMLogger.get_instance('reid_statistics', log_level='INFO')
    logger.addHandler(caplog.handler)
    with caplog.at_level(logging.INFO):
        Market1501(write_folders(tmp_path, photos.MARKET), 'test')
    lines = [record.getMessage() for record in caplog.records if 'Market1501' in record.getMessage()]
    assert lines == [
        'Market1501: query 2 images of 2 identities from 2 cameras; gallery 3 images of 3 identities from 3 cameras'
    ]


def test_all_missing_folders_are_in_one_error(tmp_path):
    with pytest.raises(UserError) as error:
        Market1501(str(tmp_path), 'test')
    assert f'{tmp_path}/query' in str(error.value)
    assert f'{tmp_path}/bounding_box_test' in str(error.value)


def test_an_empty_folder_is_missing(tmp_path):
    root = write_folders(tmp_path, {'query': photos.DUKE['query']})
    (tmp_path / 'bounding_box_test').mkdir()
    with pytest.raises(UserError, match='bounding_box_test, expected those of gallery') as error:
        DukeMTMC(root, 'test')
    assert 'of query' not in str(error.value)


def test_unprepared_cuhk03_names_the_converter(tmp_path):
    with pytest.raises(UserError, match=f'prepare_cuhk03.py {tmp_path}'):
        CUHK03(str(tmp_path))


def test_msmt17_names_missing_lists_and_folders(tmp_path):
    root = write_msmt17(tmp_path)
    (tmp_path / 'list_val.txt').unlink()
    with pytest.raises(UserError, match='missing .*list_val.txt;'):
        MSMT17(root)
    (tmp_path / 'test').rename(tmp_path / 'tset')
    with pytest.raises(UserError, match='missing .*/test or .*/mask_test_v2'):
        MSMT17(root, 'test')


def test_incomplete_msmt17_is_refused(tmp_path):
    root = write_msmt17(tmp_path)
    (tmp_path / 'train' / photos.MSMT17['train'][1]).unlink()
    with pytest.raises(UserError, match=f'1 of 3 train images are missing, such as .*{photos.MSMT17["train"][1]}'):
        MSMT17(root)


def test_a_corrupted_list_names_its_line(tmp_path):
    root = write_msmt17(tmp_path)
    with (tmp_path / 'list_train.txt').open('a') as file:
        file.write('0001/0001_002_07_0302')
    with pytest.raises(UserError, match='list_train.txt, line 3'):
        MSMT17(root)


def test_foreign_images_are_refused_and_other_files_ignored(tmp_path):
    root = write_folders(tmp_path, photos.MARKET)
    for name in ('Thumbs.db', '._0002_c1s1_000451_03.jpg'):
        (tmp_path / 'bounding_box_train' / name).write_bytes(b'x')
    assert len(Market1501(root)) == 3
    write_image(tmp_path / 'bounding_box_train' / '0002_c9s1_000451_03.jpg')
    with pytest.raises(UserError, match='0002_c9s1_000451_03.jpg: the name'):
        Market1501(root)


@pytest.mark.parametrize('arguments', [dict(split='val'), dict(boxes='auto')])
def test_unknown_choice_is_refused(arguments):
    with pytest.raises(UserError, match='choose from'):
        CUHK03('data', **arguments)


@pytest.mark.parametrize(
    ('name', 'identities'),
    [
        ('market1501', 751),
        ('dukemtmc', 702),
        ('msmt17', 1041),
        ('cuhk03-labeled', 767),
        ('cuhk03-detected', 767),
        ('merged', 751 + 702 + 1041 + 767),
    ],
)
def test_baselines_take_another_root(tmp_path, name, identities):
    cfg = load_baseline(name, tmp_path)
    assert cfg.data_preprocessor.num_classes == identities
    check_data_folders(cfg, ['val_dataloader', 'test_dataloader'] if name != 'merged' else [])
    assert str(cfg.train_dataloader.dataset).count("'data/") == 0
    assert cfg.train_dataloader.dataset.get('boxes') == ('detected' if name.endswith('detected') else None)


def test_training_images(tmp_path):
    cfg = load_baseline('market1501', write_folders(tmp_path, photos.MARKET))
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        dataset = Market1501(str(tmp_path), pipeline=cfg.train_pipeline)
    np.random.seed(0)
    samples = [dataset[index % 3] for index in range(60)]
    assert {tuple(sample['inputs'].shape) for sample in samples} == {(3, 256, 128)}
    sample = samples[2]['data_samples']
    assert (sample.gt_label.item(), sample.pid, sample.camera, sample.role) == (1, 7, 5, 'train')
    assert sample.img_path.endswith('0007_c6s2_000776_01.jpg')
    # Images of eight flat blocks: only erased ones show many colours.
    erased = np.mean([len(np.unique(sample['inputs'])) == 256 for sample in samples])
    flipped = np.mean([sample['data_samples'].flip for sample in samples])
    assert 0.3 < erased < 0.7
    assert 0.3 < flipped < 0.7


def test_the_other_size(tmp_path):
    cfg = load_baseline('market1501', write_folders(tmp_path, photos.MARKET), 'vit-base', '384x128')
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        loaders = (cfg.train_dataloader, cfg.test_dataloader)
        train, test = (Compose(loader.dataset.pipeline) for loader in loaders)
        tta = Compose(cfg.tta_pipeline)
    info = Market1501(str(tmp_path), 'test').get_data_info(0)
    assert train(dict(info))['inputs'].shape == test(dict(info))['inputs'].shape == (3, 384, 128)
    image, flipped = tta(dict(info))['inputs']
    assert image.shape == (3, 384, 128)
    assert (image.flip(2) == flipped).all()


def test_resize_is_that_of_pillow(tmp_path):
    cfg = load_baseline('market1501', write_folders(tmp_path, photos.MARKET))
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        sample = Market1501(str(tmp_path), 'test', pipeline=cfg.test_pipeline)[0]
    with Image.open(sample['data_samples'].img_path) as image:
        expected = np.asarray(image.resize((128, 256), Image.Resampling.BICUBIC))
    difference = np.abs(sample['inputs'].numpy()[::-1].transpose(1, 2, 0).astype(int) - expected)
    assert difference.max() <= 3  # of decoding JPEG
    assert difference.mean() < 0.5
