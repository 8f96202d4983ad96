"""Networks of the host libraries with fewer blocks, for runs that show that a config works and not how well.

The size of a network is then a question of its code alone: channels, names and stages stay as they are.
"""

import importlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import pytest

from tests.helpers.methods import declared

HOSTS = ('mmpretrain', 'mmdet', 'mmseg', 'mmpose')


def few(blocks: Sequence[int]) -> list[int]:
    """Return the number of blocks of each stage: two in the first one, with and without a change of shape, then one."""
    return [min(2, blocks[0]), *[1 for _ in blocks[1:]]]


@contextmanager
def small_networks() -> Iterator[None]:
    """Give every ResNet few blocks, and networks that mmpretrain knows by a name few layers."""
    from mmpretrain.models.backbones import SwinTransformerV2, VisionTransformer

    with pytest.MonkeyPatch.context() as patch:
        for host in filter(find_spec, HOSTS):
            resnet = importlib.import_module(f'{host}.models.backbones.resnet').ResNet
            patch.setattr(
                resnet, 'arch_settings', {d: (block, few(n)) for d, (block, n) in resnet.arch_settings.items()}
            )
        for network in (VisionTransformer, SwinTransformerV2):
            patch.setattr(network, 'arch_zoo', {name: _shallow(arch) for name, arch in network.arch_zoo.items()})
        _clear_caches()
        try:
            yield
        finally:
            _clear_caches()


def _clear_caches() -> None:
    for rules in declared('brief').values():
        if hasattr(rules, 'clear_caches'):
            rules.clear_caches()


def _shallow(arch: dict[str, Any]) -> dict[str, Any]:
    return arch | ({'depths': few(arch['depths'])} if 'depths' in arch else {'num_layers': 1})
