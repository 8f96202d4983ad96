"""Distillation configs of RepFusion: each trains, and says what its name says."""

import pytest
import torch
from torch.testing import assert_close

from reprefine.engine.build import build_model
from reprefine.engine.cli.launch import load_config
from tests.configs.brief import ROOT
from tests.configs.walk import configs_below, train_and_test
from tests.methods.repfusion.tiny import TEACHER, tiny_teacher

FOLDER = ROOT / 'configs/repfusion/distill'


@pytest.mark.parametrize('path', configs_below('repfusion/distill'), ids=lambda path: path.stem)
def test_trains(path, tmp_path, toy_folder):
    train_and_test(path, tmp_path, toy_folder)


@pytest.mark.parametrize('folder', ['distill', 'ablations'])
def test_resuming_goes_on_with_the_draws(folder):
    for path in configs_below(f'repfusion/{folder}'):
        hooks = [hook.type for hook in load_config(str(path)).custom_hooks]
        assert hooks.count('reprefine.DrawCountHook') == 1, path.stem


def config(name):
    return load_config(str(FOLDER / f'{name}.py'))


@pytest.mark.parametrize('student', ['resnet18-cifar', 'mobilenet-v2-cifar'])
@pytest.mark.parametrize('loss', ['hint', 'at', 'rkd'])
def test_published_variants_differ_by_the_selector_alone(student, loss):
    ours, theirs = (config(f'{student}_repfusion-rl-{loss}{end}_200e_cifar10') for end in ('', '-published'))
    (a, b) = (cfg.custom_hooks.pop() for cfg in (ours, theirs))
    assert (a.baseline, a.warmup_epochs, b.baseline, b.warmup_epochs) == ('ema', 1, 'none', 0)
    for key in ('model', 'custom_hooks', 'train_dataloader', 'optim_wrapper', 'param_scheduler', 'train_cfg'):
        assert ours[key] == theirs[key], key


@pytest.mark.parametrize(
    ('name', 'batch', 'lr', 'loss', 'source'),
    [
        ('resnet18-cifar_repfusion-rl-hint_200e_cifar10', 128, 0.1, 'HintLoss', None),
        ('mobilenet-v2-cifar_repfusion-rl-at_200e_cifar10', 128, 0.1, 'AttentionTransferLoss', None),
        ('resnet18-cifar_repfusion-uniform50-at_2xb32-200e_tiny-imagenet', 32, 0.1, 'AttentionTransferLoss', 50),
        ('mobilenet-v2-cifar_repfusion-uniform50-rkd_200e_tiny-imagenet', 64, 0.1, 'RelationalLoss', 50),
        ('resnet18_repfusion-uniform50-hint_200e_in1k', 32, 0.1, 'HintLoss', 50),
        ('resnet50_repfusion-t0-dense_8xb8-200e_celeba-hq-256x256', 8, 0.1, 'DenseLoss', None),
    ],
)
def test_recipes_are_the_published_ones(name, batch, lr, loss, source):
    cfg = config(name)
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.lr, optimizer.momentum, optimizer.weight_decay) == (lr, 0.9, 1e-4)
    assert cfg.param_scheduler.milestones == [100, 150]
    assert cfg.train_cfg.max_epochs == 200
    assert cfg.train_dataloader.batch_size == batch
    assert cfg.model.loss.type == f'reprefine.{loss}'
    assert cfg.model.get('timestep_source', {}).get('max_timestep') == source if source else True
    assert cfg.get('val_dataloader') is None


@pytest.mark.parametrize('path', configs_below('repfusion/distill'), ids=lambda path: path.stem)
def test_student_layer_and_its_width(path):
    widths = {'layer4.1': 512, 'layer4.2': 2048, 'conv2': 1280, 'neck': 2048, 'layer3.1': 64}
    cfg = load_config(str(path))
    (layer,) = cfg.model.student_layers
    from reprefine.methods.repfusion.distillation.student import Student

    student = Student(cfg.model.student.backbone, cfg.model.student.neck, [layer])
    (expected,) = [width for key, width in widths.items() if key in layer]
    assert student.channels() == [expected]


def test_noise_is_off_and_images_are_brought_to_the_teachers_range():
    for path in configs_below('repfusion/distill'):
        teacher = load_config(str(path)).model.teacher
        assert 'noise_mode' not in teacher
        assert 'teacher_norm' not in teacher


def test_every_preprocessor_is_undone_for_the_teacher():
    """Whatever the student's normalisation, the teacher sees ``u8 / 127.5 - 1`` in RGB."""
    from mmpretrain.models import ClsDataPreprocessor

    teacher = tiny_teacher()
    bgr = torch.randint(256, (3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    bgr[:, 0, :2] = torch.tensor([0, 255], dtype=torch.uint8)
    expected = bgr.flip(0).float()[None] / 127.5 - 1
    seen = set()
    for path in configs_below('repfusion/distill', 'repfusion/ablations'):
        cfg = load_config(str(path))
        config = dict(cfg.model.get('data_preprocessor') or cfg.data_preprocessor)
        config.pop('num_classes', None)
        seen.add((str(config), path.stem.split('_')[-1]))
        preprocessor = ClsDataPreprocessor(**config)
        inputs = preprocessor(dict(inputs=[bgr]))['inputs']
        prepared = teacher.prepare(inputs, preprocessor.mean, preprocessor.std)
        assert_close(prepared, expected if config.get('to_rgb') else expected.flip(1), atol=1e-5, rtol=0)
        assert prepared.abs().max() <= 1 + 1e-5
    assert len(seen) >= 4


def test_dense_losses_of_faces():
    l2, l1 = [['l2', 1.0]], [['l1', 10.0]]
    for model, batch, terms in (('resnet18', '4xb16', l2), ('resnet50', '8xb8', l1), ('hrnetv2-w18', '2xb32', l1)):
        cfg = config(f'{model}_repfusion-t0-dense_{batch}-200e_celeba-hq-256x256')
        assert cfg.model.loss.terms == terms
        assert cfg.train_dataloader.dataset.split == 'train'
        published = config(f'{model}_repfusion-t0-dense-all-images_{batch}-200e_celeba-hq-256x256')
        assert published.train_dataloader.dataset.split == 'all'


def test_model_builds_with_its_own_student_and_a_small_teacher():
    cfg = config('resnet18-cifar_repfusion-rl-hint_200e_cifar10')
    cfg.model.teacher = TEACHER
    model = build_model(cfg)
    assert model.projectors[0].weight.shape == (16, 512, 1, 1)
