"""Classification: the small data sets of real digits that Python packages ship."""

from .digits import SmallDigits

__all__ = ['SmallDigits']
