"""PDDR: parameter disentanglement for diverse representations, PD-A and PD-B (BDMA 8(3), 2025)."""

from .attention_blocks import CBAMBlock, ELABlock, GEBlock, MCABlock, SEBlock
from .backbone import PDResNet
from .conversion.build import build_pd_module
from .conversion.convert import convert_to_pd
from .layers.baseline_modules import baseline_state_dict
from .layers.branches import BRANCHES, ConvNorm, Skeleton
from .layers.conv import PDConv
from .layers.gate import Gate
from .layers.linear import PDLinear

__all__ = [
    'BRANCHES',
    'CBAMBlock',
    'ConvNorm',
    'ELABlock',
    'GEBlock',
    'Gate',
    'MCABlock',
    'PDConv',
    'PDLinear',
    'PDResNet',
    'SEBlock',
    'Skeleton',
    'build_pd_module',
    'convert_to_pd',
    'baseline_state_dict',
]
