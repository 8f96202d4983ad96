"""From images to stored features: the API and the tool."""

import json
import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from reprefine import __version__
from reprefine.engine.data_checks.images import read_image
from reprefine.engine.errors import UserError
from reprefine.methods.dvt import FeaturePairDataset, FeaturePairs, Stage1, Stage1Config, denoise_image
from reprefine.methods.dvt.functional import view_coords
from reprefine.methods.dvt.stage1 import denoise_list as runs
from reprefine.methods.dvt.stage1.views import prepare_image
from tests.helpers.run_tool import run_tool


def half_a_jpeg(image):
    """Bytes that OpenCV's imread fills with grey."""
    content = cv2.imencode('.jpg', image)[1].tobytes()
    return content[: len(content) // 2]


CONFIG = """
backbone = dict(type='reprefine.TimmViT', model_name='vit_tiny_patch16_224', img_size=32, stride={stride},
                model_args=dict(depth=2, embed_dim=48, num_heads=3))
native = dict(size=(32, 48), mean=[120.0] * 3, std=[60.0] * 3)
stage1 = dict(num_views=6, profile='cpu', solver='closed-form', storage_dtype='float32',
              field=dict(iterations=8, batch_tokens=32, encoding=dict(n_levels=2, max_resolution=20)))
custom_imports = dict(imports=['reprefine'])
"""
NAMES = [f'a/{index}.png' for index in range(5)]


@pytest.fixture
def root(tmp_path):
    rng = np.random.default_rng(0)
    for name in NAMES:
        file = tmp_path / 'images' / name
        file.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(file), cv2.resize(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8), (70, 50)))
    (tmp_path / 'config.py').write_text(CONFIG.format(stride=None))
    return tmp_path


def denoise(root, *arguments, out='out', solver='closed-form'):
    torch.manual_seed(0)  # the network's weights are random
    options = ['--data-root', root / 'images', '--out', root / out, '--solver', solver, '--device', 'cpu']
    return run_tool('denoise_images.py', root / 'config.py', *options, *arguments)


def pairs(root, out='out'):
    return FeaturePairs(root / out, 'vit_tiny_patch16_224')


@pytest.mark.parametrize('solver', ['closed-form', 'field'])
def test_tool_stores_what_the_api_gives(root, solver):
    assert denoise(root, solver=solver) == 0
    assert pairs(root).names == NAMES
    torch.manual_seed(0)
    stage1 = Stage1(Stage1Config.from_config(_config(root), solver=solver))
    file = str(root / 'images' / NAMES[1])
    views = stage1.views(NAMES[1])
    features = stage1.features(stage1.prepare(read_image(file)), views)
    result = stage1.denoise([features], [views], [NAMES[1]])[0]
    assert np.allclose(result['F'].numpy(), pairs(root).denoised(NAMES[1]), atol=1e-5)
    assert np.allclose(result['raw'].numpy(), pairs(root).raw(NAMES[1]), atol=1e-5)
    assert torch.equal(result['raw'], features[-1])
    with torch.no_grad():
        (whole,) = stage1.backbone(stage1.prepare(read_image(file))[None])
    assert torch.allclose(whole[0].movedim(0, -1), result['raw'], atol=1e-4)


def _config(root):
    from reprefine.engine.cli.launch import load_config

    return load_config(str(root / 'config.py'))


def test_api_from_a_file(root):
    torch.manual_seed(0)
    result = denoise_image(str(root / 'images' / NAMES[0]), str(root / 'config.py'))
    assert {name: tuple(value.shape) for name, value in result.items()} == dict.fromkeys(
        ('F', 'G', 'Delta', 'raw', 'subtracted'), (2, 3, 48)
    )
    assert torch.equal(result['subtracted'], result['raw'] - result['G'] - result['Delta'])
    assert result['G'].mean((0, 1)).abs().max() < 1e-4
    torch.manual_seed(0)
    stage1 = Stage1(Stage1Config.from_config(_config(root), solver='field'))
    file = root / 'images' / NAMES[0]
    named, pixels = denoise_image(file, stage1, name=NAMES[0]), denoise_image(read_image(file), stage1, name=NAMES[0])
    assert torch.equal(named['F'], pixels['F'])
    assert torch.equal(denoise_image(file, stage1)['F'], denoise_image(str(file), stage1, name='0.png')['F'])
    assert not torch.equal(named['F'], denoise_image(file, stage1)['F'])
    assert denoise(root, '--num', '1', solver='field') == 0
    assert np.allclose(pairs(root).denoised(NAMES[0]), named['F'].numpy(), atol=1e-5)
    with pytest.raises(UserError, match='has no stage1'):
        Stage1Config.from_config(type(_config(root))(dict(backbone={}, native={})))


class Watched(torch.nn.Module):
    """A network of one convolution that notes in which precision it is asked to compute."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 8, 16, 8)
        self.types = set()

    def forward(self, x):
        maps = self.conv(x)
        self.types.add(maps.dtype)
        return (maps,)


def watched(**changes):
    torch.manual_seed(0)
    field = dict(iterations=4, batch_tokens=32, encoding=dict(n_levels=2, max_resolution=20))
    settings = dict(num_views=6, profile='cpu', field=field) | changes
    return Stage1(Stage1Config({}, (38, 50), [120.0] * 3, [60.0] * 3, **settings), backbone=Watched())


def test_settings_are_those_of_the_views_and_features():
    image = np.random.default_rng(0).integers(0, 256, (60, 70, 3), dtype=np.uint8)
    plain, other = watched(), watched(coord_mode='center', resize_interpolation='bilinear', amp=True)
    for stage1, mode, interpolation in ((plain, 'endpoint', 'bicubic'), (other, 'center', 'bilinear')):
        views = stage1.views('a')
        assert torch.equal(views.coords, view_coords(views.boxes, (38, 50), 16, 8, mode))
        prepared = stage1.prepare(image)
        assert torch.equal(prepared, prepare_image(image, (38, 50), [120.0] * 3, [60.0] * 3, interpolation))
        stage1.features(prepared, views)
    assert (plain.backbone.types, other.backbone.types) == ({torch.float32}, {torch.bfloat16})
    narrow = watched(feature_dtype='float16')
    whole, half = (one.features(plain.prepare(image), plain.views('a')) for one in (plain, narrow))
    assert half.dtype == torch.float16
    assert torch.equal(whole.half(), half)


def test_the_seed_of_the_run_is_that_of_the_closed_form():
    settings = Stage1Config({}, 32, [0], [1], seed=3)
    assert settings.closed_form_config.seed == 3
    assert replace(settings, closed_form=dict(seed=5)).closed_form_config.seed == 5


def test_recentering_moves_the_mean_of_the_artifact_to_the_content():
    image = np.random.default_rng(0).integers(0, 256, (60, 70, 3), dtype=np.uint8)
    plain, moved = (denoise_image(image, watched(solver='field', recenter=recenter)) for recenter in (False, True))
    mean = plain['G'].mean((0, 1))
    assert mean.abs().max() > 1e-3
    assert torch.allclose(moved['G'], plain['G'] - mean, atol=1e-6)
    assert torch.allclose(moved['F'], plain['F'] + mean, atol=1e-6)


def test_overlapping_patches(root):
    (root / 'config.py').write_text(CONFIG.format(stride=8))
    assert denoise(root, '--num', '1') == 0
    stored = FeaturePairs(root / 'out', 'vit_tiny_patch16_224_s8')
    assert stored.denoised(NAMES[0]).shape == (3, 5, 48)
    meta = json.loads(stored.meta_file.read_text())
    assert (meta['stride'], meta['solver'], meta['version']) == (8, 'closed-form', __version__)


def test_results_do_not_depend_on_company(root):
    """Alone, in another order, two fields at a time: the same features."""
    assert denoise(root, solver='field') == 0
    (root / 'list.txt').write_text('\n'.join(['# reversed', *NAMES[::-1], '']))
    options = ['--list', root / 'list.txt', '--cfg-options', '+stage1.images_at_once=2']
    assert denoise(root, *options, out='reversed', solver='field') == 0
    for name in NAMES:
        assert np.allclose(pairs(root).denoised(name), pairs(root, 'reversed').denoised(name), atol=1e-5)


def test_a_second_run_goes_on(root, capsys):
    assert denoise(root, '--num', '2') == 0
    kept, cut = (pairs(root).path('denoised_features', name) for name in NAMES[:2])
    cut.write_bytes(cut.read_bytes()[:-4])
    stamp = kept.stat().st_mtime_ns
    capsys.readouterr()
    assert denoise(root) == 0
    assert '1 of 5 images are done' in capsys.readouterr().out
    assert pairs(root).names == NAMES
    assert kept.stat().st_mtime_ns == stamp


def test_shards_and_ranks_split_the_list(root, monkeypatch):
    assert denoise(root, '--shard', '2/2') == 0
    assert pairs(root).names == NAMES[1::2]
    parts = [runs.shard(NAMES, index, 2) for index in (1, 2)]
    monkeypatch.setenv('WORLD_SIZE', '2')
    ranks = []
    for rank in '01':
        monkeypatch.setenv('RANK', rank)
        ranks += [name for index in (1, 2) for name in runs.shard(NAMES, index, 2)]
    assert sorted(parts[0] + parts[1]) == sorted(ranks) == NAMES
    assert denoise(root, '--shard', '3/2') == denoise(root, '--shard', 'x') == 1


@pytest.mark.parametrize('kind', ['truncated', 'no image'])
def test_bad_images_are_skipped_and_reported(root, capsys, monkeypatch, kind):
    file = root / 'images' / NAMES[1]
    file.write_bytes(half_a_jpeg(cv2.imread(str(file))) if kind == 'truncated' else b'no image')
    solve = Stage1.maps

    def spoiled(stage1, solution, raw, coords):
        result = solve(stage1, solution, raw, coords)
        if len(pairs(root).names) == 1:
            result['F'] = result['F'] * float('nan')
        return result

    monkeypatch.setattr(Stage1, 'maps', spoiled)
    assert denoise(root, '--num', '3') == 1
    errors = capsys.readouterr().err
    assert f'skipped {NAMES[1]}: image' in errors
    assert f'skipped {NAMES[2]}: {NAMES[2]}: denoised_features hold numbers that are not finite' in errors
    assert '2 of 3 images were skipped' in errors
    assert pairs(root).names == NAMES[:1]


@pytest.mark.parametrize('solver', ['closed-form', 'field'])
def test_missing_components_are_added_to_pairs_that_stay(root, capsys, solver):
    assert denoise(root, '--num', '3', solver=solver) == 0
    stamps = [file.stat().st_mtime_ns for file in sorted((root / 'out').rglob('*.npy'))]
    assert denoise(root, '--num', '3', '--save-components', out='whole', solver=solver) == 0
    assert denoise(root, '--num', '2', '--save-components', solver=solver) == 0
    cut, kept, added = (stored.path('components', name) for stored in [pairs(root)] for name in NAMES[:3])
    cut.write_bytes(cut.read_bytes()[:-20])
    stamp = kept.stat().st_mtime_ns
    capsys.readouterr()
    assert denoise(root, '--num', '3', '--save-components', solver=solver) == 0
    assert '1 of 3 images are done' in capsys.readouterr().out
    assert kept.stat().st_mtime_ns == stamp
    assert [file.stat().st_mtime_ns for file in sorted((root / 'out').rglob('*.npy'))] == stamps
    for file in (cut, kept, added):
        with np.load(file) as ours, np.load(root / 'whole' / file.relative_to(root / 'out')) as expected:
            assert {name: ours[name].tobytes() for name in ours} == {
                name: expected[name].tobytes() for name in expected
            }
    assert denoise(root, '--num', '3', '--save-components', solver=solver) == 0
    assert '3 of 3 images are done' in capsys.readouterr().out


def test_components_that_cannot_be_stored_are_refused(root, capsys, monkeypatch):
    solve = Stage1.maps

    def large(*arguments):
        result = solve(*arguments)
        return result | dict(G=result['G'] + 1e6)

    monkeypatch.setattr(Stage1, 'maps', large)
    assert denoise(root, '--num', '1', '--save-components', '--dtype', 'float16') == 1
    assert 'components hold numbers that are not finite in float16' in capsys.readouterr().err
    assert not list((root / 'out').rglob('*.npz'))


def test_components_and_half_precision(root):
    assert denoise(root, '--num', '1', '--save-components', '--dtype', 'float16') == 0
    stored = np.load(root / 'out/components/vit_tiny_patch16_224' / f'{NAMES[0]}.npz', allow_pickle=False)
    assert {name: (stored[name].shape, stored[name].dtype.name) for name in stored} == (
        dict.fromkeys(('G', 'Delta', 'subtracted'), ((2, 3, 48), 'float16'))
    )
    assert np.load(pairs(root).path('raw_features', NAMES[0])).dtype == np.float16


@pytest.mark.parametrize('mark', ['', '\ufeff'])
@pytest.mark.parametrize('inside', [False, True])
def test_both_stages_read_a_list_alike(root, mark, inside):
    """The published prefix stays where the images do have it below the data root."""
    folder = root / 'images' / ('data/VOCdevkit/VOC2012' if inside else 'VOC2012')
    folder.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(root / 'images' / 'a', folder)
    names = [f'data/VOCdevkit/VOC2012/{number}.png' for number in (3, 0)]
    text = ['# all of 2012', '', f'  {names[0]} ', names[1], 'data/VOCdevkit/VOC2012/absent.png', '']
    (root / 'list.txt').write_bytes((mark + '\r\n'.join(text)).encode())
    expected = names if inside else [name.removeprefix('data/VOCdevkit/') for name in names]
    read = runs.read_names(root / 'images', root / 'list.txt')
    assert read == [*expected, 'VOC2012/absent.png']
    assert denoise(root, '--list', root / 'list.txt') == 1
    assert denoise(root, '--list', root / 'list.txt', '--num', '2') == 0
    dataset = FeaturePairDataset(str(root / 'out'), 'vit_tiny_patch16_224', ann_file=str(root / 'list.txt'))
    assert dataset.names == expected


@pytest.mark.parametrize(
    ('content', 'message'),
    [(b'# none\n\n', 'names no image'), (b'a/\xff.png\n', 'is not UTF-8 text'), (None, 'cannot be read')],
)
def test_both_stages_refuse_a_list_alike(root, content, message):
    assert denoise(root, '--num', '1') == 0
    file = root / 'list.txt'
    if content is not None:
        file.write_bytes(content)
    for read in (
        lambda: runs.read_names(root / 'images', file),
        lambda: FeaturePairDataset(str(root / 'out'), 'vit_tiny_patch16_224', ann_file=str(file)),
    ):
        with pytest.raises(UserError, match=f'list.txt {message}'):
            read()


def test_the_disk_is_looked_at_first(root, capsys, monkeypatch):
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
        (['--cfg-options', 'stage1.num_views=0'], 'stage1.num_views=0: must be positive'),
        (['--cfg-options', 'native.size=40'], 'use multiples of the patch size 16'),
        (['--cfg-options', '+backbone.checkpoint=absent.pth'], 'absent.pth'),
        (['--cfg-options', 'backbone.type=reprefine.TimmVit'], 'TimmVit'),
    ],
)
def test_bad_input_ends_with_one_line(root, capsys, arguments, message):
    assert denoise(root, *arguments) == 1
    errors = capsys.readouterr().err
    assert message in errors
    assert len(errors.strip().splitlines()) == 1
    assert not list((root / 'out').rglob('*.npy'))
