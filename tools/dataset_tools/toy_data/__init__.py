"""Small datasets in the on-disk layouts of the real benchmarks, for trying and testing without a download."""

from toy_data.build import SETS, make_toy_data

__all__ = ['SETS', 'make_toy_data']
