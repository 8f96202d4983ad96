"""The tools that plot the decomposition of features and the features of a video."""

import cv2
import numpy as np
import pytest
import torch

from reprefine.methods.dvt import DVTDenoiser
from reprefine.methods.dvt.stage1.solvers.field_solver import FieldSolver
from reprefine.methods.dvt.visualization.plot import PcaBasis
from reprefine.methods.dvt.visualization.video import foreground_score, softmax_norms
from tests.helpers.run_tool import run_tool

CONFIG = """
backbone = dict(type='reprefine.TimmViT', model_name='vit_tiny_patch16_224', img_size=48,
                model_args=dict(depth=1, embed_dim=64, num_heads=2))
native = dict(size=(48, 64), mean=[120.0] * 3, std=[60.0] * 3)
stage1 = dict(num_views=6, profile='cpu', field=dict(iterations=4, batch_tokens=32, encoding=dict(n_levels=2)))
custom_imports = dict(imports=['reprefine'])
"""


@pytest.fixture
def root(tmp_path):
    (tmp_path / 'config.py').write_text(CONFIG)
    (tmp_path / 'frames').mkdir()
    rng = np.random.default_rng(0)
    image = cv2.resize(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8), (80, 60))
    for index in range(3):
        cv2.imwrite(str(tmp_path / f'frames/{index}.png'), np.roll(image, 4 * index, 1))
    return tmp_path


@pytest.mark.parametrize(('layout', 'tiles'), [('readme', 14), ('paper', 12)])
@pytest.mark.parametrize('solver', ['closed-form', 'field'])
def test_strips(root, layout, tiles, solver):
    options = ['--out', root / 'out', '--layout', layout, '--views', '1', '--solver', solver, '--device', 'cpu']
    strips = []
    for names in (['0.png', '1.png'], ['0.png']):
        torch.manual_seed(0)  # the network's weights are random
        images = [root / 'frames' / name for name in names]
        assert run_tool('visualizations/vis_dvt.py', root / 'config.py', *images, *options) == 0
        strips.append(cv2.imread(str(root / 'out/0.png.png')))
    first = strips[0]
    assert first.shape == (26 + 2 * (48 + 12) - 12, tiles * (64 + 12) - 12, 3)
    assert np.array_equal(*strips)
    whole = cv2.resize(cv2.imread(str(root / 'frames/0.png')), (64, 48), interpolation=cv2.INTER_AREA)
    assert np.abs(first[-48:, :64].astype(float) - whole).mean() < 3
    assert (root / 'out/1.png.png').is_file()


def plot_images(root, out, images, *options):
    torch.manual_seed(0)
    files = [root / 'frames' / image for image in images]
    options = ['--out', root / out, '--views', '1', '--device', 'cpu', *options]
    return run_tool('visualizations/vis_dvt.py', root / 'config.py', *files, *options)


def test_images_of_equal_names_have_a_strip_each(root):
    names = ['a/0.png', 'b/0.png', 'b/0.bmp']
    for index, name in enumerate(names):
        (root / 'frames' / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(root / 'frames' / name), cv2.imread(str(root / f'frames/{index}.png')))
    assert plot_images(root, 'out', names) == 0
    strips = {
        file.relative_to(root / 'out').as_posix(): cv2.imread(str(file)) for file in (root / 'out').rglob('*.png')
    }
    assert set(strips) == {f'{name}.png' for name in names}
    assert plot_images(root, 'rooted', ['b/0.bmp'], '--data-root', root / 'frames') == 0
    assert np.array_equal(cv2.imread(str(root / 'rooted/b/0.bmp.png')), strips['b/0.bmp.png'])


def test_the_plotted_field_is_that_of_stage_1(root, monkeypatch):
    (root / 'frames/a').mkdir()
    (root / 'frames/0.png').rename(root / 'frames/a/0.png')
    solutions = []
    solve = FieldSolver.solve
    monkeypatch.setattr(FieldSolver, 'solve', lambda *arguments: solutions.append(solve(*arguments)) or solutions[-1])
    assert plot_images(root, 'out', ['a/0.png'], '--solver', 'field', '--data-root', root / 'frames') == 0
    torch.manual_seed(0)
    options = ['--data-root', root / 'frames', '--num', '1', '--out', root / 'pairs', '--solver', 'field']
    (root / 'list.txt').write_text('a/0.png')
    options += ['--list', root / 'list.txt', '--device', 'cpu']
    assert run_tool('denoise_images.py', root / 'config.py', *options) == 0
    ((plotted,), (stored,)) = solutions
    assert torch.equal(plotted.artifact, stored.artifact)


def test_an_image_outside_the_root_and_a_truncated_one_raise(root, capfd):
    assert plot_images(root, 'out', ['0.png'], '--data-root', root / 'pairs') == 1
    assert '0.png is not below --data-root' in capfd.readouterr().err
    content = cv2.imencode('.jpg', cv2.imread(str(root / 'frames/2.png')))[1].tobytes()
    (root / 'frames/2.jpg').write_bytes(content[: len(content) // 2])
    assert plot_images(root, 'out', ['0.png', '2.jpg']) == 1
    assert '2.jpg cannot be read: the file is truncated' in capfd.readouterr().err
    assert not (root / 'out').exists()


def plot_video(root, source, out, *options):
    torch.manual_seed(0)
    arguments = ['--out', root / out, '--device', 'cpu', *options]
    return run_tool('visualizations/vis_dvt_video.py', root / 'config.py', root / source, *arguments)


def test_frames_of_a_folder_and_of_a_video(root):
    assert plot_video(root, 'frames', 'pngs', '--save-basis', root / 'basis.npz') == 0
    frames = [cv2.imread(str(file)) for file in sorted((root / 'pngs').iterdir())]
    assert len(frames) == 3
    assert frames[0].shape == (26 + 48, 8 * (64 + 12) - 12, 3)
    assert plot_video(root, 'frames', 'video.avi', '--basis', root / 'basis.npz') == 0
    capture = cv2.VideoCapture(str(root / 'video.avi'))
    assert capture.get(cv2.CAP_PROP_FPS) == 20
    frame = capture.read()[1]
    assert frame.shape == (26 + 48, 10 * (64 + 12) - 12, 3)
    tiles = [frame[26:, index * 76 : index * 76 + 64].astype(float) for index in range(10)]
    # The basis is that of the first frame; the codec loses a little.
    assert np.abs(tiles[1] - tiles[8]).mean() < 8
    assert np.abs(tiles[6] - tiles[9]).mean() < 8
    assert 0.1 < (tiles[9].max(-1) < 30).mean() < 0.9
    assert plot_video(root, 'video.avi', 'again', '--size', '64', '96') == 0
    assert len(list((root / 'again').iterdir())) == 3
    assert cv2.imread(str(root / 'again/000001.png')).shape == (26 + 64, 8 * (96 + 12) - 12, 3)


def test_denoised_frames_at_any_stride(root):
    denoiser = DVTDenoiser(64, (3, 4)).denoiser
    torch.save({'denoiser': denoiser.state_dict()}, root / 'plain.pth')
    state = {f'neck.denoiser.{name}': value for name, value in denoiser.state_dict().items()}
    torch.save({'state_dict': state}, root / 'denoiser.pth')
    options = ['--denoiser', root / 'denoiser.pth', '--cfg-options', '+backbone.stride=8']
    assert plot_video(root, 'frames', 'denoised', *options) == 0
    assert plot_video(root, 'frames', 'raw', '--cfg-options', '+backbone.stride=8') == 0
    pair = [cv2.imread(str(root / name / '000001.png')).astype(float) for name in ('denoised', 'raw')]
    assert np.abs(pair[0] - pair[1]).mean() > 5


def test_truncated_frames_raise_and_truncated_videos_are_logged(root, capfd, monkeypatch):
    warnings = []
    monkeypatch.setattr(
        'reprefine.methods.dvt.visualization.video.print_log', lambda message, *_: warnings.append(message)
    )
    assert plot_video(root, 'frames', 'video.avi') == 0
    assert plot_video(root, 'video.avi', 'whole') == 0
    assert not warnings
    content = (root / 'video.avi').read_bytes()
    (root / 'video.avi').write_bytes(content[: len(content) // 2])
    assert plot_video(root, 'video.avi', 'out') == 0
    assert len(list((root / 'out').iterdir())) == 2
    assert warnings == [
        f'{root}/video.avi ends after 2 of 3 frames: it may be truncated and its last frame corrupted; '
        'use a complete copy'
    ]
    content = cv2.imencode('.jpg', cv2.imread(str(root / 'frames/2.png')))[1].tobytes()
    (root / 'frames/2.jpg').write_bytes(content[: len(content) // 2])
    assert plot_video(root, 'frames', 'again') == 1
    assert '2.jpg cannot be read: the file is truncated' in capfd.readouterr().err


@pytest.mark.parametrize(
    ('source', 'options', 'message'),
    [
        ('absent.mp4', [], 'does not exist; give a video or a folder of images'),
        ('config.py', [], 'cannot be decoded as a video'),
        ('out', [], 'holds no image'),
        ('frames', ['--basis', 'absent.npz'], 'absent.npz is not a PCA basis'),
        ('frames', ['--denoiser', 'absent.pth'], 'absent.pth'),
    ],
)
def test_invalid_input(root, capfd, source, options, message):
    (root / 'out').mkdir()
    assert plot_video(root, source, 'result', *options) == 1
    assert message in capfd.readouterr().err


def test_norms_through_a_softmax():
    features = np.random.default_rng(0).normal(size=(4, 5, 6)) * 4
    share = np.exp(np.linalg.norm(features, axis=-1) / 5)
    share /= share.sum()
    assert np.allclose(softmax_norms(features), (share - share.min()) / (share.max() - share.min()))


def test_foreground_is_where_the_second_component_is_in_the_upper_half_of_its_range():
    features = np.random.default_rng(0).normal(size=(4, 5, 6))
    basis = PcaBasis(np.eye(6)[:, :3], np.array([-9.0, -1.0, -9.0]), np.array([9.0, 1.4, 9.0]))
    assert np.array_equal(foreground_score(features, basis) > 0, features[..., 1] > 0.2)
    assert np.array_equal(foreground_score(features, basis) > 0, basis.colors(features)[..., 1] > 0.5)
