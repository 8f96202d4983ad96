"""PDDR: convolutions trained as disentangled branches, PD-A and PD-B (Big Data Mining and Analytics 8(3), 2025)."""

from .backbone import PDResNet
from .comparison import CBAMBlock, ELABlock, GEBlock, MCABlock, SEBlock
from .conv import PDConv
from .convert import convert_to_pd
from .converted import build_converted
from .layers import BRANCHES, ConvNorm, Gate, Skeleton
from .linear import PDLinear
from .plain import plain_state_dict

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
