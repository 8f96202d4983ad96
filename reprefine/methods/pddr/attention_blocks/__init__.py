"""Attention blocks that the paper compares PDDR with; each is inserted in a residual branch and keeps the shape.

AC is not among them: it is the PD-A convolution with the branches ``standard1`` and ``skeleton``.
"""

from .cbam import CBAMBlock
from .ela import ELABlock
from .ge import GEBlock
from .mca import MCABlock
from .se import SEBlock

__all__ = ['CBAMBlock', 'ELABlock', 'GEBlock', 'MCABlock', 'SEBlock']
