"""Stage 1 over a list of images, by ``tools/denoise_images.py``."""

import json
import shutil

import cv2
import numpy as np
import pytest
import torch

from reprefine import __version__
from reprefine.engine.cli.launch import load_config
from reprefine.engine.data_checks.images import read_image
from reprefine.engine.errors import UserError
from reprefine.methods.dvt import FeaturePairDataset, FeaturePairs, Solution, Stage1, Stage1Config
from reprefine.methods.dvt.stage1.image_list import list_images, shard

from .small_images import CONFIG, NAMES, denoise, pairs


def truncated_jpeg(image):
    """Half of a JPEG file, which OpenCV's imread completes with grey."""
    content = cv2.imencode('.jpg', image)[1].tobytes()
    return content[: len(content) // 2]


@pytest.mark.parametrize('solver', ['closed-form', 'field'])
def test_tool_stores_what_the_api_gives(root, solver):
    assert denoise(root, solver=solver) == 0
    assert pairs(root).names == NAMES
    torch.manual_seed(0)
    stage1 = Stage1(Stage1Config.from_config(load_config(str(root / 'config.py')), solver=solver))
    file = str(root / 'images' / NAMES[1])
    features, views = stage1.extract(read_image(file), NAMES[1])
    result = stage1.denoise([features], [views], [NAMES[1]])[0]
    assert np.allclose(result['F'].numpy(), pairs(root).denoised(NAMES[1]), atol=1e-5)
    assert np.allclose(result['raw'].numpy(), pairs(root).raw(NAMES[1]), atol=1e-5)
    assert torch.equal(result['raw'], features[-1])
    with torch.no_grad():
        (features,) = stage1.extractor.backbone(stage1.extractor.prepare(read_image(file))[None])
    assert torch.allclose(features[0].movedim(0, -1), result['raw'], atol=1e-4)


def test_overlapping_patches(root):
    (root / 'config.py').write_text(CONFIG.format(stride=8))
    assert denoise(root, '--num', '1') == 0
    stored = FeaturePairs(root / 'out', 'vit_tiny_patch16_224_s8')
    assert stored.denoised(NAMES[0]).shape == (3, 5, 48)
    meta = json.loads(stored.meta_file.read_text())
    assert (meta['stride'], meta['solver'], meta['version']) == (8, 'closed-form', __version__)


def test_results_do_not_depend_on_the_other_images(root):
    """In another order, and with two fields fitted together."""
    assert denoise(root, solver='field') == 0
    (root / 'list.txt').write_text('\n'.join(['# reversed', *NAMES[::-1], '']))
    options = ['--list', root / 'list.txt', '--cfg-options', '+stage1.images_at_once=2']
    assert denoise(root, *options, out='reversed', solver='field') == 0
    for name in NAMES:
        assert np.allclose(pairs(root).denoised(name), pairs(root, 'reversed').denoised(name), atol=1e-5)


def test_a_second_run_resumes(root, capsys):
    assert denoise(root, '--num', '2') == 0
    kept, truncated = (pairs(root).path('denoised_features', name) for name in NAMES[:2])
    truncated.write_bytes(truncated.read_bytes()[:-4])
    mtime = kept.stat().st_mtime_ns
    capsys.readouterr()
    assert denoise(root) == 0
    assert '1 of 5 images are complete' in capsys.readouterr().out
    assert pairs(root).names == NAMES
    assert kept.stat().st_mtime_ns == mtime


def test_shards_and_ranks_split_the_list(root, monkeypatch):
    assert denoise(root, '--shard', '2/2') == 0
    assert pairs(root).names == NAMES[1::2]
    parts = [shard(NAMES, index, 2) for index in (1, 2)]
    monkeypatch.setenv('WORLD_SIZE', '2')
    ranks = []
    for rank in '01':
        monkeypatch.setenv('RANK', rank)
        ranks += [name for index in (1, 2) for name in shard(NAMES, index, 2)]
    assert sorted(parts[0] + parts[1]) == sorted(ranks) == NAMES
    assert denoise(root, '--shard', '3/2') == denoise(root, '--shard', 'x') == 1


@pytest.mark.parametrize('kind', ['truncated', 'no image'])
def test_bad_images_are_skipped_and_reported(root, capsys, monkeypatch, kind):
    file = root / 'images' / NAMES[1]
    file.write_bytes(truncated_jpeg(cv2.imread(str(file))) if kind == 'truncated' else b'no image')
    components = Solution.components

    def not_finite(*arguments):
        result = components(*arguments)
        if len(pairs(root).names) == 1:
            result['F'] = result['F'] * float('nan')
        return result

    monkeypatch.setattr(Solution, 'components', not_finite)
    assert denoise(root, '--num', '3') == 1
    errors = capsys.readouterr().err
    assert f'skipped {NAMES[1]}: image' in errors
    assert f'skipped {NAMES[2]}: {NAMES[2]}: denoised_features are not finite' in errors
    assert '2 of 3 images were skipped' in errors
    assert pairs(root).names == NAMES[:1]


@pytest.mark.parametrize('solver', ['closed-form', 'field'])
def test_missing_components_are_added_to_stored_pairs(root, capsys, solver):
    assert denoise(root, '--num', '3', solver=solver) == 0
    mtimes = [file.stat().st_mtime_ns for file in sorted((root / 'out').rglob('*.npy'))]
    assert denoise(root, '--num', '3', '--save-components', out='expected', solver=solver) == 0
    assert denoise(root, '--num', '2', '--save-components', solver=solver) == 0
    truncated, kept, added = (pairs(root).path('components', name) for name in NAMES[:3])
    truncated.write_bytes(truncated.read_bytes()[:-20])
    mtime = kept.stat().st_mtime_ns
    capsys.readouterr()
    assert denoise(root, '--num', '3', '--save-components', solver=solver) == 0
    assert '1 of 3 images are complete' in capsys.readouterr().out
    assert kept.stat().st_mtime_ns == mtime
    assert [file.stat().st_mtime_ns for file in sorted((root / 'out').rglob('*.npy'))] == mtimes
    for file in (truncated, kept, added):
        with np.load(file) as stored, np.load(root / 'expected' / file.relative_to(root / 'out')) as expected:
            assert {name: stored[name].tobytes() for name in stored} == {
                name: expected[name].tobytes() for name in expected
            }
    assert denoise(root, '--num', '3', '--save-components', solver=solver) == 0
    assert '3 of 3 images are complete' in capsys.readouterr().out


def test_components_that_are_not_finite_raise(root, capsys, monkeypatch):
    components = Solution.components

    def large(*arguments):
        result = components(*arguments)
        return result | dict(G=result['G'] + 1e6)

    monkeypatch.setattr(Solution, 'components', large)
    assert denoise(root, '--num', '1', '--save-components', '--dtype', 'float16') == 1
    assert 'components are not finite in float16' in capsys.readouterr().err
    assert not list((root / 'out').rglob('*.npz'))


def test_components_and_half_precision(root):
    assert denoise(root, '--num', '1', '--save-components', '--dtype', 'float16') == 0
    stored = np.load(root / 'out/components/vit_tiny_patch16_224' / f'{NAMES[0]}.npz', allow_pickle=False)
    assert {name: (stored[name].shape, stored[name].dtype.name) for name in stored} == (
        dict.fromkeys(('G', 'Delta', 'subtracted'), ((2, 3, 48), 'float16'))
    )
    assert np.load(pairs(root).path('raw_features', NAMES[0])).dtype == np.float16


@pytest.mark.parametrize('byte_order_mark', ['', '\ufeff'])
@pytest.mark.parametrize('inside', [False, True])
def test_both_stages_read_a_list_alike(root, byte_order_mark, inside):
    """The published prefix is kept if the images have it below the data root."""
    folder = root / 'images' / ('data/VOCdevkit/VOC2012' if inside else 'VOC2012')
    folder.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(root / 'images' / 'a', folder)
    names = [f'data/VOCdevkit/VOC2012/{number}.png' for number in (3, 0)]
    text = ['# all of 2012', '', f'  {names[0]} ', names[1], 'data/VOCdevkit/VOC2012/absent.png', '']
    (root / 'list.txt').write_bytes((byte_order_mark + '\r\n'.join(text)).encode())
    expected = names if inside else [name.removeprefix('data/VOCdevkit/') for name in names]
    read = list_images(root / 'images', root / 'list.txt')
    assert read == [*expected, 'VOC2012/absent.png']
    assert denoise(root, '--list', root / 'list.txt') == 1
    assert denoise(root, '--list', root / 'list.txt', '--num', '2') == 0
    dataset = FeaturePairDataset(str(root / 'out'), 'vit_tiny_patch16_224', ann_file=str(root / 'list.txt'))
    assert dataset.names == expected


@pytest.mark.parametrize(
    ('content', 'message'),
    [(b'# none\n\n', 'names no image'), (b'a/\xff.png\n', 'is not UTF-8 text'), (None, 'cannot be read')],
)
def test_both_stages_raise_for_an_invalid_list(root, content, message):
    assert denoise(root, '--num', '1') == 0
    file = root / 'list.txt'
    if content is not None:
        file.write_bytes(content)
    for read in (
        lambda: list_images(root / 'images', file),
        lambda: FeaturePairDataset(str(root / 'out'), 'vit_tiny_patch16_224', ann_file=str(file)),
    ):
        with pytest.raises(UserError, match=f'list.txt {message}'):
            read()


def test_disk_space_is_checked_first(root, capsys, monkeypatch):
    """An array has 2 x 3 tokens, 48 channels, 4 bytes: 1152."""

    def denoise_with(free, *options, out='out'):
        monkeypatch.setattr(shutil, 'disk_usage', lambda path: shutil._ntuple_diskusage(10**6, 10**6 - free, free))
        return denoise(root, *options, out=out)

    assert denoise_with(10 * 1152 - 1) == 1
    assert 'free some, store float16' in capsys.readouterr().err
    assert not (root / 'out').exists()
    components = ['--num', '2', '--save-components']
    assert denoise_with(10 * 1152 - 1, *components) == 1
    assert not (root / 'out').exists()
    no_delta = ['--cfg-options', '+stage1.closed_form.residual=False']
    assert denoise_with(8 * 1152, *components, *no_delta, out='no_delta') == 0
    assert denoise_with(4 * 1152, '--num', '2') == 0
    assert denoise_with(6 * 1152 - 1, *components) == 1
    assert denoise_with(6 * 1152, *components) == 0  # the pairs are there
    assert denoise_with(6 * 1152) == 0


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (
            ['--list', 'absent.txt'],
            'list absent.txt cannot be read (No such file or directory); tools/dataset_tools/voc_image_list.py',
        ),
        (['--cfg-options', 'stage1.profile=fast'], "stage1.profile='fast': use paper, head, demo, cpu"),
        (['--cfg-options', '+stage1.views=3'], "unexpected keyword argument 'views'"),
        (['--cfg-options', 'stage1.num_views=0'], 'stage1.num_views=0: must be at least 1'),
        (['--cfg-options', 'native.size=[32,48,3]'], 'native.size=[32, 48, 3]: give the side, or height and width'),
        (['--cfg-options', 'native.mean=[120.0]'], 'native.mean=[120.0]: give one number for each of red'),
        (['--cfg-options', 'stage1.field.iterations=0'], 'stage1.field.iterations=0: must be at least 1'),
        (
            ['--cfg-options', '+stage1.closed_form.nodes=[2,9]'],
            'stage1.closed_form.nodes=[2, 9]: give rows',
        ),
        (['--cfg-options', '+stage1.closed_form.probes=0'], 'stage1.closed_form.probes=0: must be at least 1'),
        (['--cfg-options', 'native.size=40'], 'use multiples of the patch size 16'),
        (['--cfg-options', '+backbone.checkpoint=absent.pth'], 'absent.pth'),
        (['--cfg-options', 'backbone.type=reprefine.TimmVit'], 'TimmVit'),
    ],
)
def test_invalid_input_ends_with_one_line(root, capsys, arguments, message):
    assert denoise(root, *arguments) == 1
    errors = capsys.readouterr().err
    assert message in errors
    assert len(errors.strip().splitlines()) == 1
    assert not list((root / 'out').rglob('*.npy'))
