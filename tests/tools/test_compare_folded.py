"""Comparison of predictions before and after folding, from the command line."""

import math
import runpy

import pytest
import torch

from tests.helpers.run import DENOISED, DIGITS
from tests.helpers.run_tool import TOOLS, run_tool

TOOL = 'analysis_tools/compare_folded.py'


@pytest.mark.parametrize(('dtype', 'tolerance'), [('float64', 1e-12), ('float32', 1e-4)])
def test_predictions_are_equal_and_the_weights_fit(dtype, tolerance, capsys):
    assert run_tool(TOOL, DENOISED, '--baseline', DIGITS, '--dtype', dtype) == 0
    out = capsys.readouterr().out
    assert 'all weights loaded' in out
    assert float(out.split()[-1]) < tolerance
    assert torch.get_default_dtype() == torch.float32


def test_another_baseline_is_refused(capsys):
    options = ('--cfg-options', 'model.model.backbone.arch.num_layers=1')
    assert run_tool(TOOL, DENOISED, '--baseline', DIGITS, *options) == 1
    assert 'do not fit' in capsys.readouterr().err


def test_difference_is_relative_to_each_tensor():
    difference = runpy.run_path(str(TOOLS / TOOL))['difference']
    before = [torch.tensor([1.0, -4.0]), torch.tensor([100.0])]
    assert difference(before, [torch.tensor([1.0, -3.0]), torch.tensor([101.0])]) == 0.25
    assert difference(before, before[:1]) == math.inf
    assert difference(before, [before[0], torch.tensor([math.nan])]) == math.inf
    assert difference(before, [torch.tensor([math.nan, 1.0]), before[1]]) == math.inf


def test_a_difference_beyond_the_tolerance_is_an_error(capsys):
    options = (DENOISED, '--baseline', DIGITS, '--dtype', 'float32')
    assert run_tool(TOOL, *options, '--tolerance', 1e-12) == 1
    out, error = capsys.readouterr()
    assert 'largest relative difference' in out
    assert 'more than 1e-12' in error
    assert run_tool(TOOL, *options, '--tolerance', 1) == 0


def test_a_fold_that_changes_predictions_is_an_error(capsys, monkeypatch):
    from reprefine.methods.denoiserep import functional, layers

    def without_shift(weight, bias, predictor, shift, step):
        return functional.merge_input_side(weight, bias, predictor, None, step)

    fuse = layers.DenoiseLinear.fuse

    def wrong(layer):
        with monkeypatch.context() as patch:
            patch.setattr(layers, 'merge_input_side', without_shift)
            return fuse(layer)

    monkeypatch.setattr(layers.DenoiseLinear, 'fuse', wrong)
    assert run_tool(TOOL, DENOISED, '--baseline', DIGITS) == 1
    assert 'the fold is wrong' in capsys.readouterr().err


def test_a_model_that_does_not_fold_proves_nothing(capsys):
    assert run_tool(TOOL, DIGITS, '--baseline', DIGITS) == 1
    assert 'nothing in its model folds' in capsys.readouterr().err
