"""The field solver: phases, Adam steps, gradients, and several images together."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from reprefine.engine.errors import UserError
from reprefine.methods.dvt.functional import distance_loss, head_lr, residual_loss, sparsity_loss
from reprefine.methods.dvt.stage1.solvers.encoding import HashGrid
from reprefine.methods.dvt.stage1.solvers.field_solver import PROFILES, FitConfig, ImageFields, draw_tokens, fit_fields
from tests.helpers.run_tool import import_beside

synthetic_views = import_beside('analysis_tools/bench_dvt_stage1.py', 'dvt_stage1.synthetic').synthetic_views

SMALL = FitConfig(
    iterations=60, schedule='head', batch_tokens=64, encoding=dict(n_levels=3, n_features=2, max_resolution=32)
)


def views(seed=0, **kwargs):
    return synthetic_views(
        torch.Generator().manual_seed(seed), **{**dict(channels=8, grid=5, num_views=6, mode='endpoint'), **kwargs}
    )


class Recorder:
    """Callback of the fit that records the parameters and the terms of the loss at every step."""

    def __init__(self, monkeypatch):
        self.records, self.fields, self.states = {}, None, {}
        init = ImageFields.__init__

        def record(fields, *args, **kwargs):
            init(fields, *args, **kwargs)
            self.fields = fields
            self.states[-1] = self.state()

        monkeypatch.setattr(ImageFields, '__init__', record)

    def state(self):
        return {name: value.detach().clone() for name, value in self.fields.named_parameters()}

    def __call__(self, step, terms):
        self.records[step] = set(terms)
        self.states[step] = self.state()
        self.grad = self.fields.artifact.table.grad
        if step == 31:
            assert self.fields.artifact.table.grad is None


def test_phases(monkeypatch):
    recorder = Recorder(monkeypatch)
    data = views()
    fit_fields([data.features], [data.coords], [1], SMALL, on_step=recorder)
    assert all(recorder.records[step] == {'distance'} for step in range(31))
    assert all(recorder.records[step] == {'distance', 'residual', 'sparsity'} for step in range(31, 60))
    name = 'artifact.table'
    assert not torch.equal(recorder.states[29][name], recorder.states[30][name])
    assert all(torch.equal(recorder.states[30][name], recorder.states[step][name]) for step in range(31, 60))
    assert recorder.grad is None
    delta = [name for name in recorder.states[-1] if name.startswith('residual')]
    assert len(delta) == 6
    for name in delta:
        assert torch.equal(recorder.states[30][name], recorder.states[-1][name])
        assert not torch.equal(recorder.states[31][name], recorder.states[-1][name])


@pytest.mark.parametrize(
    ('changed', 'residual_weight', 'sparsity_weight', 'decay'),
    [({}, 0.1, 0.02, 1e-5), (dict(residual_weight=0.7, sparsity_weight=0.3, weight_decay=0.1), 0.7, 0.3, 0.1)],
)
def test_every_step_is_one_of_adam_on_the_weighted_losses(
    monkeypatch, changed, residual_weight, sparsity_weight, decay
):
    """The parameters after each step follow from those before it by the formulas in float64."""
    config, data, recorder = replace(SMALL, iterations=6, **changed), views(), Recorder(monkeypatch)
    fit_fields([data.features], [data.coords], [1], config, on_step=recorder)
    monkeypatch.undo()
    twin = ImageFields(8, (5, 5), [1], config)  # draws the same tokens
    tokens, points = [data.features.flatten(0, 2)], [data.coords.flatten(0, 2)]
    moments = {}
    for step in range(6):
        twin.load_state_dict(recorder.states[step - 1])
        raw, coords, positions = draw_tokens(tokens, points, twin, config.batch_tokens)
        second = step > 3
        artifact = twin.artifact(positions).detach() if second else twin.artifact(positions)
        explained, delta = twin.semantics(coords) + artifact, twin.residual(raw)
        loss = distance_loss(explained + second * delta.detach(), raw)
        if second:
            loss = (
                loss + residual_weight * residual_loss(delta, raw, explained) + sparsity_weight * sparsity_loss(delta)
            )
        named = dict(twin.named_parameters())
        slopes = torch.autograd.grad(loss.sum(), list(named.values()), allow_unused=True)
        rate = head_lr(step, 6)
        for (name, before), slope in zip(named.items(), slopes, strict=True):
            after = recorder.states[step][name].double()
            if slope is None:
                assert torch.equal(after, before.double()), (step, name)
                continue
            slope = slope.double() + decay * before.detach().double()
            count, mean, square = moments.get(name, (0, 0.0, 0.0))
            count, mean, square = count + 1, 0.9 * mean + 0.1 * slope, 0.99 * square + 0.01 * slope**2
            moments[name] = count, mean, square
            move = (mean / (1 - 0.9**count)) / ((square / (1 - 0.99**count)).sqrt() + 1e-15)
            assert (before.detach().double() - rate * move - after).abs().max() < 1e-3 * rate, (step, name)


def reference(raw, semantics, artifact, delta):
    """Loss of the second phase and its gradients in float64, by the formulas."""
    leaves = [value.double().requires_grad_() for value in (semantics, artifact, delta)]
    semantics, artifact, residual = leaves
    y = raw.double()
    explained = semantics + artifact.detach()
    prediction = explained + residual.detach()
    distance = (prediction - y).pow(2).mean() + 1 - F.cosine_similarity(prediction, y, dim=-1).mean()
    residual_term = (residual - (y - explained).detach()).pow(2).mean()
    loss = distance + 0.1 * residual_term + 0.02 * residual.abs().mean()
    return loss, torch.autograd.grad(loss, [semantics, residual])


def test_losses_and_gradients_of_both_phases(monkeypatch):
    """The modules are replaced by given outputs, to take gradients with respect to these."""
    generator = torch.Generator().manual_seed(0)
    raw, semantics, artifact, delta = torch.randn(4, 1, 7, 8, generator=generator)
    given = [value.clone().requires_grad_() for value in (semantics, artifact, delta)]
    fields = ImageFields(8, (5, 5), [0], SMALL)
    for name, value in zip(('semantics', 'artifact', 'residual'), given, strict=True):
        monkeypatch.setattr(getattr(fields, name), 'forward', lambda _, value=value: value)
    first = fields.losses(raw, None, None, with_residual=False)
    expected = (semantics + artifact - raw).double().pow(2).mean() + 1
    expected -= F.cosine_similarity((semantics + artifact).double(), raw.double(), dim=-1).mean()
    assert first['distance'].item() == pytest.approx(expected.item(), rel=1e-6)
    slopes = torch.autograd.grad(first['distance'].sum(), given, allow_unused=True)
    assert torch.equal(slopes[0], slopes[1])
    assert slopes[2] is None

    given[1].requires_grad_(False)
    second = fields.losses(raw, None, None, with_residual=True)
    assert torch.autograd.grad(second['distance'].sum(), given[2], retain_graph=True, allow_unused=True) == (None,)
    loss = sum(weight * second[name].sum() for name, weight in (('distance', 1), ('residual', 0.1), ('sparsity', 0.02)))
    expected, (semantics_slope, residual_slope) = reference(raw, semantics, artifact, delta)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    slopes = torch.autograd.grad(loss, [given[0], given[2]])
    assert torch.allclose(slopes[0].double(), semantics_slope, atol=1e-7)
    assert torch.allclose(slopes[1].double(), residual_slope, atol=1e-7)


def test_several_images_together_equal_single_images():
    config = replace(SMALL, iterations=50)
    data = [views(seed) for seed in range(3)]
    features, coords = [item.features for item in data], [item.coords for item in data]
    together = fit_fields(features, coords, [5, 6, 7], config)
    for image in range(3):
        alone = fit_fields(features[image : image + 1], coords[image : image + 1], [5 + image], config)
        for name, value in alone.named_parameters():
            difference = (dict(together.named_parameters())[name][image] - value[0]).abs().max()
            assert difference < 1e-5, name


def test_a_solution_evaluates_only_its_own_image(monkeypatch):
    data = [views(seed) for seed in range(3)]
    fields = fit_fields([item.features for item in data], [item.coords for item in data], [5, 6, 7], SMALL)
    points, products = [], []
    corners, baddbmm = HashGrid.corners, torch.baddbmm
    monkeypatch.setattr(HashGrid, 'corners', lambda self, coords: points.append(len(coords)) or corners(self, coords))
    monkeypatch.setattr(torch, 'baddbmm', lambda bias, x, weight: products.append(x.shape) or baddbmm(bias, x, weight))
    for image in (0, 2):
        solution = fields.solution(image)
        solution.semantics(data[image].coords[-1])
        solution.residual(data[image].features[-1])
    assert points == [25, 25]
    assert {shape[:2] for shape in products} == {(1, 25)}


def test_solution_of_one_of_several_images():
    data = [views(seed) for seed in range(2)]
    fields = fit_fields([item.features for item in data], [item.coords for item in data], [5, 6], SMALL)
    solution = fields.solution(1)
    coords = data[1].coords
    stacked = torch.stack([data[0].coords, coords])
    assert torch.allclose(solution.semantics(coords), fields.semantics(stacked)[1], atol=1e-6)
    assert torch.equal(solution.artifact, fields.artifact.table[1].unflatten(0, (5, 5)))
    raw = torch.stack([item.features.flatten(0, 2) for item in data])
    assert torch.allclose(solution.residual(data[1].features).flatten(0, 2), fields.residual(raw)[1], atol=1e-6)


def test_features_in_half_precision():
    data = views()
    full = fit_fields([data.features.half().float()], [data.coords], [1], SMALL)
    half = fit_fields([data.features.half()], [data.coords], [1], SMALL)
    assert torch.equal(full.artifact.table, half.artifact.table)


def test_disabled_artifact_stays_zero():
    data = views()
    fields = fit_fields([data.features], [data.coords], [1], replace(SMALL, disable_artifact=True))
    assert not fields.artifact.table.any()


def test_parameter_counts_of_the_default_modules():
    fields = ImageFields(768, (37, 37), [0], FitConfig())
    counts = {name: sum(p.numel() for p in getattr(fields, name).parameters()) for name in ('artifact', 'residual')}
    assert counts == dict(artifact=1_051_392, residual=332_928)
    assert sum(p.numel() for p in fields.semantics.mlp.parameters()) == 345_216
    assert fields.semantics.encoding.table.numel() == 19_741_760
    assert fields.artifact.table.std().item() == pytest.approx(0.02, rel=0.01)
    first = fields.semantics.mlp.layers[0].weight
    assert first.abs().max().item() == pytest.approx(128**-0.5, rel=1e-3)


def test_profiles():
    known = {name: (config.iterations, config.schedule) for name, config in PROFILES.items()}
    assert known == dict(paper=(20000, 'paper'), head=(25000, 'head'), demo=(10000, 'paper'), cpu=(1500, 'head'))
    with pytest.raises(UserError, match="stage1.field.schedule='cosine': use paper, head"):
        FitConfig(schedule='cosine')
