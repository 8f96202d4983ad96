"""Datasets of classification: CIFAR-10, Tiny-ImageNet and handwritten digits."""

from .cifar import CIFAR10
from .digits import SmallDigits
from .tiny_imagenet import TinyImageNet

__all__ = ['CIFAR10', 'SmallDigits', 'TinyImageNet']
