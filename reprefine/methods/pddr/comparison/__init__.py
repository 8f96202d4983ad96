"""Attention blocks that PDDR is compared with; all keep the shape and end a residual branch.

AC is none of them: it is the PD convolution with the branches ``standard1`` and ``skeleton``.
"""

from .cbam import CBAMBlock
from .ela import ELABlock
from .ge import GEBlock
from .mca import MCABlock
from .se import SEBlock

__all__ = ['CBAMBlock', 'ELABlock', 'GEBlock', 'MCABlock', 'SEBlock']
