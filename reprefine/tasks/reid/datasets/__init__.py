"""Person re-identification datasets."""

from .releases import CUHK03, MSMT17, DukeMTMC, Market1501, MergedReID

__all__ = ['CUHK03', 'DukeMTMC', 'MSMT17', 'Market1501', 'MergedReID']
