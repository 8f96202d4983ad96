"""The base model as DenoiseRep makes it: losses, label-free training, names, EMA (checks 9, 12, 15)."""

import copy
import io

import pytest
import torch
import torch.nn.functional as F
from mmengine.model import BaseDataPreprocessor, ExponentialMovingAverage
from mmengine.optim import OptimWrapper
from mmengine.runner.checkpoint import _load_checkpoint_to_model
from torch import nn

from reprefine.engine.errors import UserError
from reprefine.methods.denoiserep import (
    DenoiseRep,
    convert,
    denoise_layers,
    is_converted,
    is_reparameterized,
    noise_loss,
    set_phase,
)
from reprefine.methods.denoiserep.conversion.converted import denoise_state
from reprefine.registry import MODELS

from .toys import TinyConvNet, TinyViT, ToyClassifier, assert_same, build, images, refined, snapshot

LABELS = torch.tensor([0, 1, 2, 3])
PHASES = ('denoise', 'backbone', 'joint', 'eval_only')


def wrap(seed=0, include='mlp', drop=0.0, **options) -> DenoiseRep:
    return refined(lambda: TinyViT(drop=drop), seed, include=include, **options)


def converted_base(state: dict) -> ToyClassifier:
    """The base model, converted without DenoiseRep, in training mode."""
    base = build(ToyClassifier)
    convert(base, 'mlp')
    base.load_state_dict(state)
    return base.train()


def generator(model, seed=3):
    denoise_state(model).generator = torch.Generator().manual_seed(seed)


@pytest.mark.parametrize('phase', PHASES)
@pytest.mark.parametrize('weight', [0.01, 2.0])
def test_losses_are_those_of_the_base_model_plus_the_weighted_noise_loss(phase, weight):
    model = wrap(loss_weight=weight).train()
    set_phase(model, phase)
    other = converted_base(model.state_dict())
    set_phase(other, phase)
    generator(model)
    losses = model(images(), LABELS, mode='loss')
    generator(other)
    expected = other(images(), LABELS, mode='loss')
    noise = noise_loss(other)
    is_trained = phase in ('denoise', 'joint')
    assert set(losses) == {'loss_cls'} | ({'loss_denoise'} if is_trained else set())
    torch.testing.assert_close(losses['loss_cls'], expected['loss_cls'])
    if is_trained:
        torch.testing.assert_close(losses['loss_denoise'], weight * noise)
    total, log = model.parse_losses(losses)
    torch.testing.assert_close(total, sum(losses.values()))
    assert set(log) == {*losses, 'loss'}
    assert losses['loss_cls'].requires_grad == (phase in ('backbone', 'joint'))  # no graph of the base model


def test_noise_losses_by_layer_are_logged_but_not_added():
    base, logging = (wrap(log_layers=log).train() for log in (False, True))
    logging.load_state_dict(base.state_dict())
    losses = []
    for model in (base, logging):
        generator(model)
        losses.append(model(images(), LABELS, mode='loss'))
    layers = {key: value for key, value in losses[1].items() if key.startswith('noise/')}
    assert layers.keys() == {f'noise/{name}' for name in denoise_state(logging).layer_names}
    assert not any('loss' in key or value.requires_grad for key, value in layers.items())
    torch.testing.assert_close(losses[1]['loss_denoise'], logging.denoise.loss_weight * sum(layers.values()))
    torch.testing.assert_close(base.parse_losses(losses[0])[0], logging.parse_losses(losses[1])[0])


def test_the_base_model_builds_no_graph_while_predictors_are_trained():
    """Even if the base model is trainable before the first phase change, or the input requires a gradient."""
    losses = wrap().train()(images().requires_grad_(), LABELS, mode='loss')
    assert not losses['loss_cls'].requires_grad
    assert losses['loss_denoise'].requires_grad


def test_predict_and_tensor_modes_are_those_of_the_base_model():
    model = wrap().eval()
    base = converted_base(model.state_dict()).eval()
    assert torch.equal(model(images()), base(images()))
    for output, expected in zip(model(images(), mode='predict'), base(images(), mode='predict'), strict=True):
        assert torch.equal(output, expected)
    assert torch.equal(torch.stack(model.test_step({'inputs': images()})), model(images()).softmax(-1))


def test_denoise_eval_off_evaluates_the_base_model():
    base = build(ToyClassifier).eval()
    assert torch.equal(wrap(denoise_eval=False).eval()(images()), base(images()))
    assert not torch.equal(wrap().eval()(images()), base(images()))


@pytest.mark.parametrize('name', ['sgd', 'adamw'])
@pytest.mark.parametrize('phase', PHASES[:3])
@pytest.mark.parametrize('accumulate', [1, 2])
def test_train_step_moves_what_the_phase_trains(phase, name, accumulate):
    """Through mmengine's own train_step, with momentum, weight decay and gradient accumulation."""
    model = wrap().train()
    model.backbone.patch_embed.weight.requires_grad_(False)
    if name == 'sgd':
        optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9, weight_decay=0.1)
    else:
        optimizer = torch.optim.AdamW(model.parameters(), 0.01, weight_decay=0.1)
    wrapper = OptimWrapper(optimizer, accumulative_counts=accumulate)
    wrapper.initialize_count_status(model, 0, 12)
    data = {'inputs': images(), 'labels': LABELS}
    for earlier in ('joint', phase):  # the first fills the momentum of every parameter
        set_phase(model, earlier)
        before, statistics = snapshot(model), model.backbone.neck.running_mean.clone()
        for _ in range(2):
            log = model.train_step(data, wrapper)
    moved = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    own = {n for n, _ in model.named_parameters() if '.denoiser.' in n}
    base = {n for n, _ in model.named_parameters()} - own - {'backbone.patch_embed.weight'}
    assert moved == (own if phase != 'backbone' else set()) | (base if phase != 'denoise' else set())
    assert ('loss_denoise' in log) == (phase != 'backbone')
    assert torch.equal(statistics, model.backbone.neck.running_mean) == (phase == 'denoise')


@pytest.mark.parametrize('phase', PHASES[:3])
def test_the_phase_of_the_constructor_is_trained_without_a_hook(phase):
    model = wrap(phase=phase).train()
    model.train_step({'inputs': images(), 'labels': LABELS}, OptimWrapper(torch.optim.AdamW(model.parameters(), 0.1)))
    other = wrap(phase=phase).train()
    set_phase(other, phase)
    assert [p.requires_grad for p in model.parameters()] == [p.requires_grad for p in other.parameters()]
    moved = {n for n, p in model.named_parameters() if not torch.equal(p, other.get_parameter(n))}
    assert moved == {n for n, p in model.named_parameters() if p.requires_grad}
    assert all(p.requires_grad for p in wrap(phase=phase).parameters())  # an optimiser is yet to be given all of them


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(phase='train'), "unknown phase 'train': use one of denoise, backbone, joint, eval_only"),
        (
            dict(phase='backbone', label_free=True),
            'label_free=True trains predictors only, but the phases are backbone',
        ),
    ],
)
def test_a_phase_that_cannot_be_trained_is_refused_at_construction(options, message):
    with pytest.raises(UserError, match=message):
        wrap(**options)


def test_the_logged_loss_is_the_sum_that_is_trained():
    """mmpretrain's classifiers call their own term ``loss``."""

    class Classifier(ToyClassifier):
        def forward(self, *args, **kwargs):
            output = super().forward(*args, **kwargs)
            return {'loss': output['loss_cls']} if isinstance(output, dict) else output

    for phase in PHASES[:3]:
        model = DenoiseRep(base_type=Classifier, denoise=dict(include='mlp', loss_weight=2.0, phase=phase)).train()
        losses = model(images(), LABELS, mode='loss')
        total, log = model.parse_losses(losses)
        assert torch.equal(log['loss'], total)
        assert log['loss'] == sum(value for name, value in log.items() if name.startswith('loss_'))
        assert set(log) - {'loss_denoise'} == {'loss', 'loss_task'}


def test_a_training_iteration_does_not_walk_over_the_modules(monkeypatch):
    model = wrap().train()
    for phase in PHASES[:3]:
        set_phase(model, phase)
        model(images(), LABELS, mode='loss')
        with monkeypatch.context() as patch:
            patch.setattr(nn.Module, 'named_modules', lambda *_, **__: pytest.fail('walked'))
            model(images(), LABELS, mode='loss')


@pytest.mark.parametrize('phase', ['denoise', None])
def test_label_free_training_takes_no_labels_and_computes_no_task_loss(phase, monkeypatch):
    model = wrap(label_free=True, loss_weight=1.0).train()
    if phase:
        set_phase(model, phase)
    monkeypatch.setattr(F, 'cross_entropy', lambda *_: pytest.fail('the task loss was computed'))
    generator(model)
    losses = model(images(), mode='loss')
    assert set(losses) == {'loss_denoise'}
    labelled = wrap(loss_weight=1.0).train()
    labelled.load_state_dict(model.state_dict())
    generator(labelled)
    monkeypatch.undo()
    assert torch.equal(losses['loss_denoise'], labelled(images(), LABELS, mode='loss')['loss_denoise'])
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=0.1)
    before = snapshot(model)
    for _ in range(2):
        model.train_step({'inputs': images()}, OptimWrapper(optimizer))
    assert {k for k, v in snapshot(model).items() if not torch.equal(v, before[k])} == {
        k for k in before if '.denoiser.' in k and k.endswith(('weight', 'bias'))
    }


def test_state_dict_keys_are_those_of_the_base_model_plus_predictors():
    model, base = wrap(), ToyClassifier()
    keys = set(model.state_dict())
    assert set(base.state_dict()) < keys
    added = keys - set(base.state_dict())
    assert added == model.added_keys
    assert {key.partition('.denoiser.')[0] for key in added} == set(denoise_layers(model))
    nested = nn.ModuleDict({'student': model, 'other': nn.Linear(2, 2)})
    assert {k for k in nested.state_dict() if k.startswith('student.')} == {f'student.{k}' for k in keys}
    nested.load_state_dict(nested.state_dict())


@pytest.mark.parametrize('prefix', ['', 'module.'])
def test_baseline_checkpoint_lacks_predictor_keys_only(prefix):
    baseline, model = build(ToyClassifier, 7), wrap()
    missing, unexpected = model.load_state_dict(baseline.state_dict(), strict=False)
    assert not unexpected
    assert set(missing) == model.added_keys
    model = wrap()
    own = {k: v for k, v in snapshot(model).items() if '.denoiser.' in k}
    state_dict = {prefix + key: value for key, value in baseline.state_dict().items()}
    _load_checkpoint_to_model(model, {'state_dict': state_dict})
    after = snapshot(model)
    assert_same({k: v for k, v in after.items() if k in own}, own)
    assert_same({k: v for k, v in after.items() if k not in own}, snapshot(baseline))
    denoise_state(model).denoise_eval = False
    assert torch.equal(model.eval()(images()), baseline.eval()(images()))


def test_a_foreign_checkpoint_fails_strictly_and_names_the_key():
    with pytest.raises(RuntimeError, match=r'(?s)Missing key.*backbone\.head\.weight.*Unexpected key.*nothing\.here'):
        state_dict = wrap().state_dict()
        del state_dict['backbone.head.weight']
        wrap().load_state_dict(state_dict | {'nothing.here': torch.zeros(1)})


@pytest.mark.parametrize('phase', PHASES)
def test_round_trip_in_the_middle_of_a_phase(phase):
    model = wrap(timestep=9, include='all')
    set_phase(model, 'joint')
    model.train_step({'inputs': images(), 'labels': LABELS}, OptimWrapper(torch.optim.SGD(model.parameters(), 0.1)))
    set_phase(model, phase)
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other = wrap(seed=5, include='all')
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(other.eval()(images()), model.eval()(images()))
    other.switch_to_deploy()
    torch.testing.assert_close(other(images()), model(images()), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('phase', PHASES)
def test_switch_to_deploy_is_in_place_and_idempotent_and_gives_the_baseline(phase):
    model, x = wrap(include='all').eval(), images(8, 2)
    model.backbone.neck.bias.requires_grad_(False)
    set_phase(model, phase)
    expected = model(x)
    model.switch_to_deploy()
    assert (is_converted(model), is_reparameterized(model)) == (False, True)
    assert [n for n, p in model.named_parameters() if not p.requires_grad] == ['backbone.neck.bias']
    deployed = snapshot(model)
    model.switch_to_deploy()
    assert_same(snapshot(model), deployed)
    stock = ToyClassifier().eval()
    stock.load_state_dict(deployed, strict=True)
    torch.testing.assert_close(stock(x), expected, rtol=1e-5, atol=1e-5)
    assert set(model(images(), LABELS, mode='loss')) == {'loss_cls'}


def test_attributes_and_preprocessor_are_those_of_the_base_model():
    class Thresholded(ToyClassifier):
        def __init__(self, *args, score_thr=0.5, **kwargs):
            super().__init__(*args, **kwargs)
            self.score_thr = score_thr

        @property
        def num_classes(self):
            return self.backbone.head.out_features

    backbone = TinyViT()
    model = DenoiseRep(backbone, base_type=Thresholded, score_thr=0.3, denoise=dict(include='mlp'))
    assert (model.score_thr, model.num_classes) == (0.3, 5)
    assert isinstance(model, Thresholded)
    assert vars(model).keys() - vars(Thresholded()).keys() == {'denoise', '_denoise_state'}
    assert model.backbone is backbone
    with pytest.raises(AttributeError, match='no_such_thing'):
        _ = model.no_such_thing
    other = copy.deepcopy(model)
    assert type(other) is type(model)
    assert other.backbone is not backbone
    assert torch.equal(other.eval()(images()), model.eval()(images()))


def test_building_from_a_config_with_a_preprocessor_beside_it():
    MODELS.register_module(name='ToyForDenoiseRep', module=ToyClassifier, force=True)
    options = dict(include=r'fc1$', timestep=7)
    config = dict(type='reprefine.DenoiseRep', base_type='reprefine.ToyForDenoiseRep', denoise=options)
    original = copy.deepcopy(config)
    model = MODELS.build(config)
    assert [int(layer.denoiser.timestep) for layer in denoise_layers(model).values()] == [7, 7]
    assert isinstance(model.data_preprocessor, BaseDataPreprocessor)
    assert config == original


def test_a_real_base_model_from_its_config():
    """mmpretrain's ViT classifier at toy size: loss, prediction, reparameterisation into the stock model."""
    import mmpretrain.models
    from mmpretrain.structures import DataSample

    arch = dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32)
    base = dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(type='mmpretrain.VisionTransformer', arch=arch, img_size=8, patch_size=4),
        head=dict(type='mmpretrain.VisionTransformerClsHead', num_classes=5, in_channels=16,
                  loss=dict(type='mmpretrain.CrossEntropyLoss')),
    )  # fmt: skip
    assert mmpretrain.models
    preprocessor = dict(type='mmpretrain.ClsDataPreprocessor', num_classes=5, mean=[0.5] * 3, std=[2.0] * 3)
    refinement = dict(type='reprefine.DenoiseRep', base_type=base['type'], denoise=dict(include='all'))
    model = MODELS.build(copy.deepcopy(base) | refinement | dict(data_preprocessor=preprocessor))
    model.init_weights()
    batch = {'inputs': list(images()), 'data_samples': [DataSample().set_gt_label(int(i)) for i in LABELS]}
    optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), 0.1))
    for phase in PHASES[:3]:
        set_phase(model.train(), phase)
        assert ('loss_denoise' in model.train_step(batch, optimizer)) == (phase != 'backbone')
    expected = torch.stack([sample.pred_score for sample in model.eval().test_step(batch)])
    model.switch_to_deploy()
    stock = MODELS.build(copy.deepcopy(base) | {'data_preprocessor': preprocessor}).eval()
    stock.load_state_dict(model.state_dict(), strict=True)
    scores = torch.stack([sample.pred_score for sample in stock.test_step(batch)])
    torch.testing.assert_close(scores, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('update_buffers', [True, False])
def test_ema_averages_base_model_and_predictors_and_is_deployed(update_buffers):
    model = wrap(include='all', timestep=9).train()
    ema = ExponentialMovingAverage(model, momentum=0.25, update_buffers=update_buffers)
    expected = {n: p.detach().clone() for n, p in model.named_parameters()}
    optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), 0.1))
    for i, phase in enumerate(('denoise', 'backbone', 'joint')):
        set_phase(model, phase)
        model.train_step({'inputs': images(seed=i), 'labels': LABELS}, optimizer)
        ema.update_parameters(model)
        for name, p in model.named_parameters():
            expected[name] = p.detach().clone() if i == 0 else 0.75 * expected[name] + 0.25 * p.detach()
    for name, p in ema.module.named_parameters():
        torch.testing.assert_close(p, expected[name], rtol=1e-5, atol=1e-6)
    averaged = ema.module.eval()
    assert denoise_state(averaged) is not denoise_state(model)
    assert [int(layer.denoiser.timestep) for layer in denoise_layers(averaged).values()] == [9] * len(
        denoise_layers(model)
    )
    output = averaged(images())
    averaged.switch_to_deploy()
    torch.testing.assert_close(averaged(images()), output, rtol=1e-5, atol=1e-5)
    assert is_converted(model)


def test_ema_state_dict_swaps_with_the_models_key_by_key():
    """mmengine's EMAHook exchanges ``module.<key>`` of the average with ``<key>`` of the model."""
    model = refined(TinyConvNet, include='conv')
    keys = set(ExponentialMovingAverage(model).state_dict()) - {'steps'}
    assert keys == {f'module.{key}' for key in model.state_dict()}
