"""The network that a distillation trains: a backbone and a neck, of which inner layers are recorded."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from reprefine.engine.errors import UserError
from reprefine.registry import MODELS

from ..teacher.layer_recorder import find_layer


class Recorder:
    """Forward hook that keeps a copy of a layer's last output; a deep copy of the model gets its own.

    The copy is needed because a later layer may work in place, and the last call counts because a ResNet block runs
    its activation several times. What runs after :meth:`take`, such as the recomputation of a checkpointed stage during
    the backward pass, is not recorded.
    """

    def __init__(self) -> None:
        self.output: Tensor | None = None
        self._layer: nn.Module | None = None
        self._handle: RemovableHandle | None = None
        self._is_recording = False

    def start(self, layer: nn.Module) -> None:
        """Record ``layer`` from now on, which may have been replaced since the last time, such as by SyncBN."""
        if layer is not self._layer:
            if self._handle is not None:
                self._handle.remove()
            self._layer, self._handle = layer, layer.register_forward_hook(self)
        self._is_recording = True

    def __call__(self, module: nn.Module, inputs: Any, output: Any) -> None:
        """Keep the output; of several maps, or a map and a class token, the first."""
        while isinstance(output, (tuple, list)):
            output = output[0]
        if self._is_recording:
            self.output = output.clone()

    def take(self) -> Tensor | None:
        """Return the output, let go of it, and record no more."""
        self._is_recording = False
        output, self.output = self.output, None
        return output


class Student(nn.ModuleDict):
    """A backbone and a neck whose inner layers are recorded.

    Args:
        backbone: Config of a backbone that returns a tuple of maps.
        neck: Config of a neck that takes that tuple; None: there is none.
        layers: Paths of the layers to record, such as ``backbone.layer4.1.relu`` or ``neck``.

    Raises:
        UserError: If there is no such layer.
    """

    def __init__(self, backbone: dict, neck: dict | None, layers: Sequence[str]) -> None:
        super().__init__({'backbone': MODELS.build(backbone)})
        if neck is not None:
            self['neck'] = MODELS.build(neck)
        self.layers = tuple(layers)
        self.recorders = [Recorder() for _ in self.layers]
        for layer in self.layers:
            find_layer(self, layer)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the recorded maps ``[N, C, H, W]`` of images ``[N, 3, H, W]``.

        Raises:
            UserError: If a layer was not run, has no map, or would teach nothing.
        """
        return self.features_and_maps(images)[1]

    def features_and_maps(self, images: Tensor) -> tuple[tuple[Tensor, ...], list[Tensor]]:
        """Return the features that a head takes, those of the neck where there is one, and the recorded maps.

        Args:
            images: ``[N, 3, H, W]``.

        Raises:
            UserError: As :meth:`forward`.
        """
        for layer, recorder in zip(self.layers, self.recorders, strict=True):
            recorder.start(self.get_submodule(layer))
        features = self['backbone'](images)
        if 'neck' in self:
            features = self['neck'](features)
        maps = [recorder.take() for recorder in self.recorders]
        for layer, recorded in zip(self.layers, maps, strict=True):
            self._check(layer, recorded)
        return features, maps

    def _check(self, layer: str, recorded: Tensor | None) -> None:
        if recorded is None or recorded.dim() != 4:
            raise UserError(f'student layer {layer} yields no map of features')
        if not torch.is_grad_enabled() or recorded.requires_grad:
            return
        if any(parameter.requires_grad for parameter in self.parameters()):  # else nothing is to learn
            raise UserError(
                f'student layer {layer} is recorded without its graph, so that no weight would learn from it: it is '
                'frozen, or within a stage that recomputes its activations; record a later layer, or leave that stage '
                'out of activation_checkpointing (with_cp=False)'
            )

    @torch.no_grad()
    def widths(self, side: int = 64) -> list[int]:
        """Return the number of channels of each recorded layer, found out with an empty image.

        Args:
            side: Height and width of the image; an HRNet needs a multiple of 32.
        """
        mode = self.training
        maps = self.eval()(torch.zeros(1, 3, side, side))
        self.train(mode)
        return [recorded.shape[1] for recorded in maps]
