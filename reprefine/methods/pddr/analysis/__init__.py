"""What the branches and the gate have learned, where a network looks, and how PD-A starts a plain network."""

from .attribution import grad_cam, guided_grad_cam
from .backpropagation import input_gradients
from .branches import branch_responses, branch_weights, find_layer
from .functional import (
    common_histograms,
    deconvnet_relu_gradient,
    density_of_fit,
    elementwise_maximum,
    grad_cam_maps,
    guided_grad_cam_maps,
    guided_relu_gradient,
    to_signed_range,
    to_unit_range,
)
from .gates import gate_table, mean_gates
from .lottery import lottery_state
from .occlusion import occlusion_maps
from .static import static_model

__all__ = [
    'branch_responses',
    'branch_weights',
    'common_histograms',
    'deconvnet_relu_gradient',
    'density_of_fit',
    'elementwise_maximum',
    'find_layer',
    'gate_table',
    'grad_cam',
    'grad_cam_maps',
    'guided_grad_cam',
    'guided_grad_cam_maps',
    'guided_relu_gradient',
    'input_gradients',
    'lottery_state',
    'mean_gates',
    'occlusion_maps',
    'static_model',
    'to_signed_range',
    'to_unit_range',
]
