"""Classification: datasets, and accuracy on long-tailed data."""

from .datasets import CIFAR10, SmallDigits, TinyImageNet
from .metrics import ShotAccuracy

__all__ = ['CIFAR10', 'ShotAccuracy', 'SmallDigits', 'TinyImageNet']
