"""What the branches and the gate have learned, where a network looks, and how PD-A starts a plain network."""

from .attribution import grad_cam
from .branches import branch_responses, branch_weights, find_layer
from .functional import common_histograms, density_of_fit, elementwise_maximum, grad_cam_maps, to_unit_range
from .gates import gate_table, mean_gates
from .lottery import lottery_state

__all__ = [
    'branch_responses',
    'branch_weights',
    'common_histograms',
    'density_of_fit',
    'elementwise_maximum',
    'find_layer',
    'gate_table',
    'grad_cam',
    'grad_cam_maps',
    'lottery_state',
    'mean_gates',
    'to_unit_range',
]
