"""PDDR: convolutions trained as disentangled branches, PD-A and PD-B (Big Data Mining and Analytics 8(3), 2025)."""

from .backbone import PDResNet
from .comparison import CBAMBlock, ELABlock, GEBlock, MCABlock, SEBlock
from .conversion.convert import convert_to_pd
from .conversion.converted import build_converted
from .conversion.plain import plain_state_dict
from .layers.branches_and_gate import BRANCHES, ConvNorm, Gate, Skeleton
from .layers.conv import PDConv
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
    'build_converted',
    'convert_to_pd',
    'plain_state_dict',
]
