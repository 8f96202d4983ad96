"""Reading layers of a network, and stopping it after the last one."""

import contextlib
import difflib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from reprefine.engine.errors import UserError


class _Reached(Exception):
    """All layers have been read."""


class FeatureTap:
    """Forward hooks that keep the outputs of some layers until they are read.

    Args:
        network: The network.
        layers: ``[path, channels]`` of each layer; channels may be None.
        early_exit: Stop the network after the last layer.

    Raises:
        UserError: If the network has no such layer.
    """

    def __init__(self, network: nn.Module, layers: Sequence[Sequence[Any]], early_exit: bool) -> None:
        if not layers:
            raise UserError('teacher: layers is empty; give at least one [path, channels]')
        self.paths = [layer[0] for layer in layers]
        self._expected = [layer[1] if len(layer) > 1 else None for layer in layers]
        self._modules = [find_layer(network, path) for path in self.paths]
        self._feats: list[Tensor | None] = [None] * len(layers)
        self._seen = 0
        self._calls: int | None = None  # of all layers in one pass; unknown before the dry run
        self._changed = [False] * len(layers)
        self.early_exit = early_exit
        for index, module in enumerate(self._modules):
            module.register_forward_hook(partial(self._keep, index))  # unlike a closure, it is copied with the tap

    def _keep(self, index: int, module: nn.Module, args: Any, output: Any) -> None:
        feat = output[0] if isinstance(output, tuple) else output
        # The last call counts, and what a later layer overwrites is copied.
        self._feats[index] = feat.clone() if self._changed[index] else feat
        self._seen += 1
        if self.early_exit and self._seen == self._calls:
            raise _Reached

    def read(self, run: Callable[[], None]) -> list[Tensor]:
        """Run the network and return the features ``[N, C, H, W]``, which are not kept."""
        self._seen = 0
        with contextlib.suppress(_Reached):
            run()
        feats, self._feats = self._feats, [None] * len(self._feats)
        return feats

    def probe(self, run: Callable[[], None]) -> list[int]:
        """Run the whole network once and return the width of each layer.

        Raises:
            UserError: If a layer is not run, yields no map, or has another width than expected.
        """
        feats = self.read(run)
        for path, feat, expected in zip(self.paths, feats, self._expected, strict=True):
            if feat is None or feat.dim() != 4:
                raise UserError(f'teacher layer {path} yields no map of features')
            if expected is not None and feat.shape[1] != expected:
                raise UserError(f'teacher layer {path} has {feat.shape[1]} channels, not {expected} as layers says')
        self._calls = self._seen
        self._changed = [feat._version > 0 for feat in feats]
        return [feat.shape[1] for feat in feats]

    def is_within(self, module: nn.Module) -> bool:
        """Whether ``module`` holds one of the layers."""
        return any(layer in self._modules for layer in module.modules())


def find_layer(network: nn.Module, path: str) -> nn.Module:
    """Return a sub-module by its path.

    Raises:
        UserError: If there is none, with the most similar paths.
    """
    modules = dict(network.named_modules())
    if path not in modules or path == '':
        similar = ', '.join(difflib.get_close_matches(path, modules, n=3, cutoff=0.4)) or ', '.join(list(modules)[1:4])
        raise UserError(f"{type(network).__name__} has no layer '{path}'; similar ones: {similar}")
    return modules[path]
