"""Classification: small sets of real digits, CIFAR-10, Tiny-ImageNet, ImageNet-100."""

from .cifar import CIFAR10
from .digits import SmallDigits
from .tiny_imagenet import TinyImageNet

__all__ = ['CIFAR10', 'SmallDigits', 'TinyImageNet']
