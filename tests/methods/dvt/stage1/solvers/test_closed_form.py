"""The closed-form solver against dense linear algebra in float64."""

import numpy as np
import pytest
import torch

from reprefine.engine.errors import UserError
from reprefine.methods.dvt.stage1.solvers.closed_form import (
    ClosedForm,
    ClosedFormConfig,
    ClosedFormSolver,
    gcv_score,
    token_weights,
)
from reprefine.methods.dvt.stage1.solvers.design_matrix import DesignMatrix, bilinear_rows, roughness
from reprefine.methods.dvt.stage1.solvers.least_squares import Factorization, conjugate_gradients
from reprefine.methods.dvt.stage1.solvers.residual_map import fit_residual_map
from tests.helpers.run_tool import import_beside

synthetic_views = import_beside('analysis_tools/bench_dvt_stage1.py', 'dvt_stage1.synthetic').synthetic_views

NODES = (9, 11)


@pytest.fixture(scope='module')
def data():
    return synthetic_views(torch.Generator().manual_seed(0), channels=6, grid=5, num_views=10, noise=0.2)


def dense(design, smoothness, weights=None):
    """Dense ``X`` and normal equations; a constant can move between ``F`` and ``G``."""
    x = design.matrix.toarray()
    normal = x.T @ (x if weights is None else weights[:, None] * x)
    normal[: design.num_nodes, : design.num_nodes] += smoothness * design.roughness.toarray()
    return x, normal


def with_zero_mean_artifact(parameters, count):
    mean = parameters[count:].mean(0)
    return np.concatenate([parameters[:count] + mean, parameters[count:] - mean])


def test_bilinear_reading_equals_grid_sample():
    coords = np.random.default_rng(0).random((50, 2))
    coords[:4] = [[0, 0], [0, 1], [1, 0], [1, 1]]
    table = torch.randn(1, 3, *NODES, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    points = torch.from_numpy(coords)[None, None] * 2 - 1
    expected = torch.nn.functional.grid_sample(table, points, align_corners=True)[0, :, 0].T
    found = bilinear_rows(coords, NODES) @ table[0].flatten(1).T.numpy()
    assert np.abs(found - expected.numpy()).max() < 1e-12


def test_roughness_is_the_sum_of_squared_second_differences():
    field = np.random.default_rng(0).normal(size=NODES)
    along = np.diff(field, 2, axis=1), np.diff(field, 2, axis=0), np.diff(np.diff(field, axis=0), axis=1)
    expected = (along[0] ** 2).sum() + (along[1] ** 2).sum() + 2 * (along[2] ** 2).sum()
    assert field.ravel() @ roughness(NODES) @ field.ravel() == pytest.approx(expected, rel=1e-12)
    plane = np.add.outer(np.arange(9) * 0.3, np.arange(11) * 2.0).ravel()
    assert np.abs(roughness(NODES) @ plane).max() < 1e-10


def test_rows_have_the_position_of_each_token(data):
    design = DesignMatrix(data.coords, NODES)
    positions = design.matrix[:, design.num_nodes :].toarray()
    assert np.array_equal(positions, np.tile(np.eye(25), (11, 1)))
    assert np.allclose(design.matrix.sum(1), 2)


@pytest.mark.parametrize('keep', [False, True])
@pytest.mark.parametrize('block', [7, 256])
@pytest.mark.parametrize('weighted', [False, True])
def test_factor_solves_the_normal_equations(data, weighted, block, keep, monkeypatch):
    monkeypatch.setattr('reprefine.methods.dvt.stage1.solvers.least_squares.BLOCK', block)
    design = DesignMatrix(data.coords, NODES)
    weights = np.random.default_rng(1).random(design.num_tokens) if weighted else None
    x, normal = dense(design, 0.7, weights)
    y = data.features.flatten(0, 2).double().numpy()
    right = x.T @ (y if weights is None else weights[:, None] * y)
    assert np.abs(design.right_sides(data.features, weights) - right).max() < 1e-4
    assert np.abs(design.normal_matrix(weights).toarray() - dense(design, 0, weights)[1]).max() < 1e-10
    given = right.copy()
    found = Factorization(design.normal_matrix(weights), 0.7 * design.roughness, keep).solve(given)
    assert np.array_equal(given, right)
    assert np.abs(normal @ found - right).max() < 1e-9
    expected = with_zero_mean_artifact(np.linalg.lstsq(normal, right, rcond=1e-12)[0], design.num_nodes)
    assert np.abs(found - expected).max() < 1e-8
    assert np.abs(found[design.num_nodes :].mean(0)).max() < 1e-10


def test_cached_factorizations_are_not_dense_in_the_nodes(data):
    """At stride 7 a matrix of nodes times positions takes 1.5 GB."""
    solver = ClosedForm(data.coords, ClosedFormConfig(nodes=(40, 40), smoothness=1.0))
    solver.fit(data.features)
    factorization = solver.factorization(1.0)
    assert factorization.normal is solver.normal
    arrays = [value for value in vars(factorization).values() if isinstance(value, np.ndarray)] + [
        factorization.schur[0]
    ]
    assert sum(array.size for array in arrays) == 25**2
    assert factorization.lu.L.nnz + factorization.lu.U.nnz < 0.1 * factorization.num_nodes**2


def test_right_sides_do_not_depend_on_the_block_size(data, monkeypatch):
    whole = DesignMatrix(data.coords, NODES).right_sides(data.features)
    monkeypatch.setattr('reprefine.methods.dvt.stage1.solvers.design_matrix.VIEWS_PER_BLOCK', 4)
    assert np.abs(DesignMatrix(data.coords, NODES).right_sides(data.features.half()) - whole).max() < 0.05
    assert np.abs(DesignMatrix(data.coords, NODES).right_sides(data.features) - whole).max() < 1e-4


def test_degrees_of_freedom_are_the_trace_of_the_hat_matrix(data):
    solver = ClosedForm(data.coords, ClosedFormConfig(nodes=NODES, probes=2000))
    for smoothness in (0.01, 10.0):
        x, normal = dense(solver.design, smoothness)
        trace = np.trace(x @ np.linalg.pinv(normal, rcond=1e-10) @ x.T)
        assert solver.degrees_of_freedom(smoothness) == pytest.approx(trace, rel=0.03)


def test_gcv_score_equals_leave_one_out():
    """The two are equal if all tokens have the same leverage, as for the mean."""
    y = np.random.default_rng(0).normal(size=64)
    leave_one_out = [(value - np.delete(y, index).mean()) ** 2 for index, value in enumerate(y)]
    assert gcv_score(((y - y.mean()) ** 2).sum(), 64, 1) == pytest.approx(np.mean(leave_one_out), rel=1e-12)


def test_the_chosen_smoothness_has_the_lowest_score(data):
    config = ClosedFormConfig(nodes=NODES, reweight=0, probes=64)
    solver = ClosedForm(data.coords, config)
    y = data.features.flatten(0, 2).double().numpy()
    scores = {}
    for value in config.candidates:
        x, normal = dense(solver.design, value)
        hat = x @ np.linalg.pinv(normal, rcond=1e-10) @ x.T
        scores[value] = gcv_score(((y - hat @ y) ** 2).sum(), len(y), np.trace(hat))
    assert solver.fit(data.features).smoothness == min(scores, key=scores.get)


def test_weights_of_tokens():
    errors = np.array([1.0, 1.0, 2.0, 0.0, 40.0])
    raw = (1 + (errors / 2) ** 2) ** -2
    assert token_weights(errors) == pytest.approx(raw / raw.mean())
    assert token_weights(7 * errors) == pytest.approx(raw / raw.mean())
    assert np.isfinite(token_weights(np.zeros(4))).all()


def test_outliers_get_low_weights():
    data = synthetic_views(torch.Generator().manual_seed(0), channels=16, grid=8, num_views=24)
    is_outlier = torch.rand(data.features.shape[:3], generator=torch.Generator().manual_seed(1)) < 0.02
    data.features[is_outlier] += 4 * torch.randn(16, generator=torch.Generator().manual_seed(2))
    weights = ClosedForm(data.coords).fit(data.features).weights
    mask = is_outlier.flatten().numpy()
    assert weights[mask].max() < 0.05
    assert np.median(weights[~mask]) > 0.9


def test_the_weighted_solution_satisfies_its_own_equations(data):
    solver = ClosedForm(data.coords, ClosedFormConfig(nodes=NODES, reweight=2))
    solution = solver.fit(data.features)
    _, normal = dense(solver.design, solution.smoothness, solution.weights)
    right = solver.design.right_sides(data.features, solution.weights)
    expected = with_zero_mean_artifact(np.linalg.lstsq(normal, right, rcond=1e-12)[0], solver.design.num_nodes)
    assert np.abs(solution.artifact.flatten(0, 1).numpy() - expected[solver.design.num_nodes :]).max() < 1e-4


def test_conjugate_gradients_equal_the_factorization(data):
    direct, iterative = (
        ClosedForm(data.coords, ClosedFormConfig(nodes=NODES, solver=solver)).fit(data.features)
        for solver in ('factor', 'cg')
    )
    assert torch.allclose(direct.artifact, iterative.artifact, atol=1e-3)
    coords = data.coords[3]
    assert torch.allclose(direct.semantics(coords), iterative.semantics(coords), atol=1e-3)


def test_conjugate_gradients_converge_within_as_many_steps_as_unknowns():
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(12, 12, generator=generator, dtype=torch.float64)
    matrix = root @ root.T + torch.eye(12)
    right = torch.randn(12, 3, generator=generator, dtype=torch.float64)
    steps = []

    def product(columns):
        steps.append(1)
        return matrix @ columns

    found = conjugate_gradients(product, right, lambda x: x / matrix.diagonal()[:, None], tolerance=1e-9)
    assert torch.allclose(found, torch.linalg.solve(matrix, right), atol=1e-8)
    assert len(steps) <= 20


def test_images_share_the_equations(data):
    solver = ClosedForm(data.coords, ClosedFormConfig(nodes=NODES, reweight=0))
    first = solver.fit(data.features)
    factors = dict(solver.factorizations)
    assert torch.allclose(solver.fit(2 * data.features).artifact, 2 * first.artifact, atol=1e-4)
    assert all(solver.factorizations[key] is value for key, value in factors.items())
    assert list(solver.factorizations) == list(factors)


def test_many_channels_are_projected():
    data = synthetic_views(torch.Generator().manual_seed(0), channels=40, grid=6, num_views=16, noise=0.3)
    projected, full = (
        ClosedForm(data.coords, ClosedFormConfig(probes=probes)).fit(data.features) for probes in (16, 64)
    )
    assert projected.smoothness == full.smoothness
    assert torch.allclose(projected.artifact, full.artifact, atol=0.05)


def test_residual_map_equals_ridge_regression():
    from sklearn.linear_model import Ridge

    generator = torch.Generator().manual_seed(0)
    raw = torch.randn(300, 10, generator=generator)
    residual = raw @ torch.randn(10, 4, generator=generator) + 2 * torch.randn(300, 4, generator=generator)
    predict = fit_residual_map(raw, residual)
    energy = torch.linalg.eigvalsh((raw - raw.mean(0)).double().T @ (raw - raw.mean(0)).double())
    best, errors = None, {}
    for ridge in (energy.max() * torch.logspace(-8, 0, 25, dtype=torch.float64)).tolist():
        model = Ridge(alpha=ridge).fit(raw.double().numpy(), residual.double().numpy())
        error = ((model.predict(raw.double().numpy()) - residual.double().numpy()) ** 2).sum()
        freedom = 1 + float((energy / (energy + ridge)).sum())
        errors[ridge] = gcv_score(error, 300, freedom)
        if errors[ridge] == min(errors.values()):
            best = model
    assert np.abs(predict(raw).numpy() - best.predict(raw.double().numpy())).max() < 1e-4
    assert predict(raw.view(3, 100, 10)).shape == (3, 100, 4)


def test_unknown_solver_raises():
    with pytest.raises(UserError, match="'factor' or 'cg'"):
        ClosedFormConfig(solver='lu')


def test_every_image_is_solved_with_its_own_views():
    """Whatever was solved before, and whether in one call or in several."""
    images = [
        synthetic_views(torch.Generator().manual_seed(seed), 6, 5, count) for seed, count in enumerate((10, 10, 7))
    ]
    solver = ClosedFormSolver(ClosedFormConfig(nodes=NODES, smoothness=0.7, reweight=0))
    alone = [dense_artifact(data, NODES, 0.7) for data in images]
    order = [0, 1, 2, 1, 0]
    separate = [solver.solve([images[i].features], [images[i].coords])[0] for i in order]
    together = solver.solve([images[i].features for i in order], [images[i].coords for i in order])
    for index, one, other in zip(order, separate, together, strict=True):
        assert np.abs(one.artifact.numpy() - alone[index]).max() < 1e-4
        assert torch.equal(one.artifact, other.artifact)
        assert torch.equal(one.semantics(images[index].coords[-1]), other.semantics(images[index].coords[-1]))


def dense_artifact(data, nodes, smoothness):
    """``G`` of an image by dense linear algebra."""
    design = DesignMatrix(data.coords, nodes)
    x, normal = dense(design, smoothness)
    right = x.T @ data.features.flatten(0, 2).double().numpy()
    found = with_zero_mean_artifact(np.linalg.lstsq(normal, right, rcond=1e-12)[0], design.num_nodes)
    return found[design.num_nodes :].reshape(*design.grid, -1)


def test_equations_are_reused_for_equal_views(data):
    solver = ClosedFormSolver(ClosedFormConfig())
    for coords in (data.coords, data.coords.clone()):
        solver.solve([data.features], [coords])
    assert solver.equations.coords is data.coords


def test_only_tokens_below_the_median_weight_move_towards_the_fit(data, monkeypatch):
    calls, choose = [], ClosedForm._choose_smoothness
    monkeypatch.setattr(
        ClosedForm,
        '_choose_smoothness',
        lambda *arguments: calls.append((arguments[1], choose(*arguments))) or calls[-1][1],
    )
    ClosedForm(data.coords, ClosedFormConfig(nodes=NODES)).fit(data.features)
    (first, (_, fitted)), (second, _) = calls
    weights = token_weights(np.sqrt(((first - fitted) ** 2).mean(1)))
    shrinkage = np.where(weights < np.median(weights), weights / np.median(weights), 1)[:, None]
    assert 0.4 < (shrinkage < 1).mean() < 0.6
    assert np.allclose(second, shrinkage * first + (1 - shrinkage) * fitted, atol=1e-12)
