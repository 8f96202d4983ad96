"""PDDR: convolutions trained as disentangled branches, PD-A and PD-B (Big Data Mining and Analytics 8(3), 2025)."""

from .backbone import PDResNet
from .conv import PDConv
from .convert import build_converted, convert_to_pd
from .layers import BRANCHES, ConvNorm, Gate, Skeleton

__all__ = ['BRANCHES', 'ConvNorm', 'Gate', 'PDConv', 'PDResNet', 'Skeleton', 'build_converted', 'convert_to_pd']
