"""Classification: datasets, accuracy on long-tailed data, and nearest neighbours during pre-training."""

from .datasets import CIFAR10, SmallDigits, TinyImageNet
from .hooks import KNNMonitorHook
from .metrics import ShotAccuracy

__all__ = ['CIFAR10', 'KNNMonitorHook', 'ShotAccuracy', 'SmallDigits', 'TinyImageNet']
