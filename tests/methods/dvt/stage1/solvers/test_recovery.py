"""Both solvers on synthetic features with known semantics and artifact."""

from dataclasses import replace

import pytest
import torch

from reprefine.methods.dvt.stage1.solvers.closed_form import ClosedForm, ClosedFormConfig
from reprefine.methods.dvt.stage1.solvers.field_solver import PROFILES, fit_fields
from reprefine.methods.dvt.visualization.position_metrics import centered_correlation
from tests.helpers.run_tool import import_beside

synthetic = import_beside('analysis_tools/bench_dvt_stage1.py', 'dvt_stage1.synthetic')

# Steps that suffice for the required correlation; without the artifact more steps do not help.
HALF = PROFILES['cpu'].iterations // 2


@pytest.fixture(scope='module')
def clean():
    return synthetic.synthetic_views(torch.Generator().manual_seed(0))


@pytest.fixture(scope='module')
def outliers():
    return synthetic.synthetic_views(torch.Generator().manual_seed(0), outliers=0.02)


def correlations(data, solution):
    semantics = centered_correlation(solution.semantics(data.coords[-1]), data.semantics)
    return semantics, centered_correlation(solution.artifact, data.artifact)


def fit(data, **changes):
    return fit_fields([data.features], [data.coords], [1], replace(PROFILES['cpu'], **changes)).solution(0)


def test_raw_features_are_far_from_the_semantics(clean):
    assert centered_correlation(clean.features[-1], clean.semantics) == pytest.approx(0.67, abs=0.05)
    assert clean.semantics.var().item() == pytest.approx(1, abs=0.3)


def test_field_recovers_semantics_and_artifact(clean):
    """Without the artifact it does not."""
    semantics, artifact = correlations(clean, fit(clean))
    assert semantics >= 0.98
    assert artifact >= 0.99
    without, _ = correlations(clean, fit(clean, disable_artifact=True, iterations=HALF))
    assert without <= 0.93
    assert without <= semantics - 0.05


def test_field_is_robust_to_outliers(outliers):
    assert correlations(outliers, fit(outliers, iterations=HALF))[0] >= 0.97


@pytest.mark.parametrize('mode', ['center', 'endpoint'])
def test_closed_form_recovers_semantics_and_artifact(mode):
    data = synthetic.synthetic_views(torch.Generator().manual_seed(0), mode=mode)
    semantics, artifact = correlations(data, ClosedForm(data.coords).fit(data.features))
    assert semantics >= 0.998
    assert artifact >= 0.999


def closed_form(data, **settings):
    return ClosedForm(data.coords, ClosedFormConfig(**settings)).fit(data.features)


def test_closed_form_needs_the_artifact(clean):
    """Without it a flexible grid puts the artifact into F, as the field does; a smooth one averages most of it out."""
    full = closed_form(clean)
    semantics, _ = correlations(clean, full)
    without, _ = correlations(clean, closed_form(clean, smoothness=full.smoothness, disable_artifact=True))
    assert without <= 0.93
    assert without <= semantics - 0.05
    chosen = closed_form(clean, disable_artifact=True)
    assert not chosen.artifact.any()
    assert 1 - correlations(clean, chosen)[0] > 50 * (1 - semantics)


def test_closed_form_finds_no_artifact_where_there_is_none(clean):
    without = ClosedForm(clean.coords).fit(clean.features - clean.artifact)
    assert without.artifact.square().mean() < 1e-3


def test_closed_form_is_robust_to_outliers(outliers):
    """One pass of reweighting improves on ordinary least squares."""
    ordinary = correlations(outliers, ClosedForm(outliers.coords, ClosedFormConfig(reweight=0)).fit(outliers.features))
    robust = correlations(outliers, ClosedForm(outliers.coords).fit(outliers.features))
    assert robust[0] >= 0.998
    assert robust[1] >= 0.999
    assert min(robust[0] - ordinary[0], robust[1] - ordinary[1]) > 0.001


def test_closed_form_is_robust_to_noise():
    data = synthetic.synthetic_views(torch.Generator().manual_seed(0), noise=0.3)
    chosen = ClosedForm(data.coords).fit(data.features)
    assert correlations(data, chosen)[0] >= 0.997
    errors = {}
    for value in (1e-3, 1e3):
        fixed = ClosedForm(data.coords, ClosedFormConfig(smoothness=value)).fit(data.features)
        errors[value] = correlations(data, fixed)[0]
    assert max(errors.values()) < correlations(data, chosen)[0]
