"""Classification: small sets of real digits, CIFAR-10, Tiny-ImageNet, ImageNet-100, long-tailed data."""

from .cifar import CIFAR10
from .digits import SmallDigits
from .shots import ShotAccuracy
from .tiny_imagenet import TinyImageNet

__all__ = ['CIFAR10', 'ShotAccuracy', 'SmallDigits', 'TinyImageNet']
