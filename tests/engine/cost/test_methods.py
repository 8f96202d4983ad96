"""Costs of combinations: what each method adds to training, and what is left of it in the deployed model."""

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData

from reprefine.engine.cli.launch import load_config
from reprefine.engine.cost import compare
from reprefine.engine.cost.compare import CostComparison
from reprefine.engine.cost.counting import count_parameters
from reprefine.engine.cost.inputs import InputBatch
from reprefine.engine.cost.method_costs import REST, costs_by_method, step_flops
from reprefine.engine.cost.methods import find_methods, remove_method
from reprefine.engine.cost.models import build_untrained
from reprefine.engine.cost.phases import training_phases
from reprefine.engine.cost.report import make_table
from reprefine.engine.cost.rows import Settings
from reprefine.engine.cost.workloads import Workloads
from reprefine.models.replaced_layer import ReplacedLayer
from tests.configs.brief import ROOT
from tests.engine.cost import test_compare

SIDE = 32
DENOISE = dict(include='conv')
RESNET = dict(type='ResNet', depth=18, stem_channels=8, base_channels=8)
PD = dict(mode='A', group_num='auto')
HEAD = dict(type='LinearClsHead', num_classes=3, in_channels=64, loss=dict(type='CrossEntropyLoss'))
CLASSIFIER = dict(type='ImageClassifier', backbone=RESNET, neck=dict(type='GlobalAveragePooling'), head=HEAD)
DISENTANGLED = CLASSIFIER | dict(backbone=RESNET | dict(type='reprefine.PDResNet', pd_cfg=PD))
VIT = dict(
    type='reprefine.TimmViT',
    model_name='vit_tiny_patch16_224',
    img_size=SIDE,
    model_args=dict(depth=1, embed_dim=64, num_heads=1),
    pretrained=True,
)
LINEAR = dict(type='FCNHead', in_channels=64, channels=64, num_convs=0, concat_input=False, num_classes=3, in_index=0)
SEGMENTOR = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(type='SegDataPreProcessor', size=(SIDE, SIDE)),
    backbone=VIT,
    decode_head=LINEAR,
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
DENOISER = dict(type='reprefine.DVTDenoiser', in_channels=64, grid=2, frozen=False, checkpoint='absent.pth')
CLEANED = SEGMENTOR | dict(neck=DENOISER)


@pytest.fixture(autouse=True)
def scope():
    """Restore the default scope, which each case sets."""
    with DefaultScope.overwrite_default_scope('mmengine'):
        yield


def complete(model: dict, denoise: dict | None = None) -> Config:
    """A config with a model, and with DenoiseRep in two phases over it if ``denoise`` are its options."""
    hooks = [dict(type='EMAHook')]
    if denoise is not None:
        model = model | dict(type='reprefine.DenoiseRep', base_type=model['type'], denoise=denoise)
        hooks.append(dict(type='reprefine.DenoisePhaseHook', phase_length=1))
    return Config(
        dict(
            default_scope='mmseg' if 'decode_head' in model else 'mmpretrain',
            model=model,
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
            custom_hooks=hooks,
            train_cfg=dict(max_epochs=4),
        )
    )


def labelled(cfg: Config) -> InputBatch:
    """Two random images with labels for the task of a config."""
    generator = torch.Generator().manual_seed(0)
    images = [torch.randint(256, (3, SIDE, SIDE), generator=generator, dtype=torch.uint8) for _ in range(2)]
    if cfg.default_scope == 'mmseg':
        from mmseg.structures import SegDataSample

        labels = PixelData(data=torch.arange(SIDE * SIDE).view(1, SIDE, SIDE) % 3)
        samples = [SegDataSample(gt_sem_seg=labels, metainfo=dict(img_shape=(SIDE, SIDE))) for _ in images]
    else:
        from mmpretrain.structures import DataSample

        samples = [DataSample().set_gt_label(1) for _ in images]
        images = [image.float() for image in images]
    return InputBatch(dict(inputs=images, data_samples=samples), len(images), 'two images')


def rows_of(candidate: Config, reference: Config, monkeypatch, **settings) -> dict:
    """The values of both sides by the name of the row, from the same random images."""
    monkeypatch.setattr(compare, 'loader_batch', lambda cfg, batch_size: labelled(cfg))
    with DefaultScope.overwrite_default_scope(candidate.default_scope):
        rows = CostComparison(candidate, reference, Settings(parts=('flops',), **settings)).run()
    make_table(rows)
    return {row.name: (row.config.median, row.baseline.median) for row in rows}


def size_of(cfg: Config) -> int:
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        return count_parameters(build_untrained(cfg))


CASES = {
    'PDDR': (DISENTANGLED, CLASSIFIER, 'PDResNet', DENOISE),
    'DVT': (CLEANED, SEGMENTOR, 'DVTDenoiser', dict(include='mlp')),
}


@pytest.mark.parametrize(('inner', 'plain', 'name', 'denoise'), CASES.values(), ids=CASES)
def test_training_is_the_sum_of_the_methods_and_the_rest(inner, plain, name, denoise, monkeypatch):
    candidate, alone, baseline = complete(inner, denoise), complete(inner), complete(plain)
    rows = rows_of(candidate, baseline, monkeypatch)
    for cost in ('training parameters', 'training step FLOPs per image'):
        total, *parts = (rows[key] for key in (cost, f'{cost}, DenoiseRep', f'{cost}, {name}', f'{cost}, {REST}'))
        assert total[0] == pytest.approx(sum(value for value, _ in parts), rel=1e-12)
        assert [value for _, value in parts] == [0, 0, total[1]]
        assert all(value for value, _ in parts)
        assert parts[-1][0] == parts[-1][1]
    sizes = [size_of(cfg) for cfg in (candidate, alone, baseline)]
    assert rows['training parameters, DenoiseRep'][0] == sizes[0] - sizes[1] > 0
    assert rows[f'training parameters, {name}'][0] == sizes[1] - sizes[2] > 0


def test_phases_without_the_backward_pass_of_the_task_save_flops(monkeypatch):
    """A step that trains predictors alone costs less than one of all branches: the share is negative."""
    rows = rows_of(complete(DISENTANGLED, DENOISE), complete(CLASSIFIER), monkeypatch)
    cost = 'training step FLOPs per image'
    assert rows[f'{cost}, DenoiseRep'][0] < 0 < rows[f'{cost}, PDResNet'][0]


@pytest.mark.parametrize(('inner', 'denoise'), [(case[0], case[-1]) for case in CASES.values()], ids=CASES)
def test_a_deployed_combination_costs_what_the_inner_method_costs(inner, denoise, monkeypatch):
    rows = rows_of(complete(inner, denoise), complete(inner), monkeypatch, deploy=True)
    for key in ('parameters', 'forward FLOPs per image'):
        assert rows[key][0] == rows[key][1] > 0


def test_a_deployed_network_of_mode_a_costs_what_the_plain_one_costs(monkeypatch):
    rows = rows_of(complete(DISENTANGLED, DENOISE), complete(CLASSIFIER), monkeypatch, deploy=True)
    assert rows['forward FLOPs per image'][0] == rows['forward FLOPs per image'][1]
    candidate, reference = rows['parameters']
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        network = build_untrained(complete(DISENTANGLED))
    # A bias in place of the scale and the shift of a norm.
    replaced = [layer.out_channels for layer in network.modules() if isinstance(layer, ReplacedLayer)]
    assert reference - candidate == sum(replaced) > 0


def test_methods_are_left_out_with_their_hooks_outermost_first():
    cfg = complete(DISENTANGLED, DENOISE)
    outer, inner = find_methods(cfg)
    assert (str(outer), str(inner)) == ('DenoiseRep', 'PDResNet')
    assert remove_method(cfg, outer)._cfg_dict == complete(DISENTANGLED)._cfg_dict
    plain = remove_method(remove_method(cfg, outer), inner)
    assert plain.model == complete(CLASSIFIER | dict(backbone=RESNET)).model
    assert find_methods(plain) == []
    kept = remove_method(cfg, inner)
    assert (kept.model.type, [hook.type for hook in kept.custom_hooks]) == (
        cfg.model.type,
        [h.type for h in cfg.custom_hooks],
    )


def test_converted_parts_of_one_package_are_one_method():
    neck = dict(type='reprefine.PDConverted', base_type='GlobalAveragePooling', pd=dict(mode='A'))
    cfg = complete(DISENTANGLED | dict(neck=neck))
    (method,) = find_methods(cfg)
    assert str(method) == 'PDResNet and PDConverted'
    assert remove_method(cfg, method).model.neck == CLASSIFIER['neck']


def test_a_denoiser_in_a_list_of_necks_is_taken_out_of_it():
    other = dict(type='Feature2Pyramid', embed_dim=64)
    cfg = complete(SEGMENTOR | dict(neck=[DENOISER, other]))
    (method,) = find_methods(cfg)
    assert remove_method(cfg, method).model.neck == [other]
    cfg.model.neck = dict(DENOISER, num_outs=4)  # without its copies the heads would have no input
    assert find_methods(cfg) == []


@pytest.mark.parametrize(
    'name',
    [
        'dvt/denoiser/vit-b-dinov2_denoiser_8xb8-100k_voc10k',
        'feature_transform/selfsup/moco-v2-ft_resnet14-narrow_12e_mnist5k',
        'repfusion/distill/resnet14-narrow_repfusion-rl-hint_30e_mnist5k-32px',
        'baselines/classification/vit-tiny_digits',
    ],
)
def test_a_training_of_its_own_and_a_baseline_have_no_method_to_leave_out(name):
    assert find_methods(load_config(f'{ROOT}/configs/{name}.py')) == []


def test_flops_of_a_training_step_match_the_closed_form():
    cfg, batch = test_compare.config(channels=6), test_compare.batch()
    workloads = Workloads(Settings(), torch.device('cpu'), batch, batch)
    conv = 2 * (test_compare.HEIGHT - 2) * (test_compare.WIDTH - 2) * 9 * 3 * 6
    linear = 2 * 6 * test_compare.CLASSES
    # Forward, and the gradients of the weights; images need no gradient, the input of the linear layer does.
    assert step_flops(cfg, workloads) == 2 * conv + 3 * linear


def test_flops_of_phases_are_weighted_by_their_shares():
    cfg = complete(CLASSIFIER, DENOISE)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        costs = {}
        for phases in (('denoise',), ('backbone',), ('denoise', 'denoise', 'denoise', 'backbone')):
            cfg.custom_hooks[1].phases = phases
            workloads = Workloads(Settings(), torch.device('cpu'), labelled(cfg), labelled(cfg))
            assert [phase.name for phase in training_phases(cfg)] == list(dict.fromkeys(phases))
            costs[len(phases), phases[0]] = step_flops(cfg, workloads)
    predictors, backbone, mixed = costs.values()
    assert predictors != backbone
    assert mixed == pytest.approx(0.75 * predictors + 0.25 * backbone, rel=1e-12)


def test_shares_add_up_for_any_measure():
    cfg = complete(CLEANED, dict(include='mlp'))
    assert costs_by_method(cfg, lambda config: 10.0 ** len(find_methods(config))) == {
        'DenoiseRep': 90.0,
        'DVTDenoiser': 9.0,
        REST: 1.0,
    }


def test_flops_without_training_data_are_not_measured():
    cfg = complete(DISENTANGLED, DENOISE)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        rows = CostComparison(cfg, cfg, Settings(parts=('flops',), input_shape=(SIDE, SIDE))).run()
    reasons = {row.name: row.not_measured for row in rows if row.not_measured}
    assert list(reasons) == ['training step FLOPs per image']
    assert 'no train_dataloader' in reasons['training step FLOPs per image']
    assert 'training parameters, DenoiseRep' in {row.name for row in rows}
