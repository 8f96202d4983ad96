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
