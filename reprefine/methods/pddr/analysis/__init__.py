"""Analyses of trained networks: attribution maps, and statistics of branches and gates."""

from .attribution.grad_cam import grad_cam, guided_grad_cam
from .attribution.input_gradients import input_gradients
from .attribution.occlusion import occlusion_maps
from .branch_statistics import branch_responses, branch_weights, find_pd_conv
from .functional import (
    common_histograms,
    deconvnet_relu_gradient,
    density_of_fit,
    grad_cam_maps,
    guided_grad_cam_maps,
    guided_relu_gradient,
    to_signed_range,
    to_unit_range,
)
from .gate_statistics import gate_table, mean_gates

__all__ = [
    'branch_responses',
    'branch_weights',
    'common_histograms',
    'deconvnet_relu_gradient',
    'density_of_fit',
    'find_pd_conv',
    'gate_table',
    'grad_cam',
    'grad_cam_maps',
    'guided_grad_cam',
    'guided_grad_cam_maps',
    'guided_relu_gradient',
    'input_gradients',
    'mean_gates',
    'occlusion_maps',
    'to_signed_range',
    'to_unit_range',
]
