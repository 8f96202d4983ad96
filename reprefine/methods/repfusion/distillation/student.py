"""The trained network of a distillation: a backbone and a neck with recorded layers."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from reprefine.engine.errors import UserError
from reprefine.registry import MODELS

from ..teacher.layer_recorder import LayerRecorder, check_feature_map


class Student(nn.ModuleDict):
    """A backbone and a neck with recorded layers.

    Args:
        backbone: Config of a backbone that returns a tuple of maps.
        neck: Config of a neck that takes this tuple; None: no neck.
        layers: Dotted paths of the recorded layers, such as ``backbone.layer4.1.relu`` or ``neck``.

    Raises:
        UserError: If a layer does not exist.
    """

    def __init__(self, backbone: dict, neck: dict | None, layers: Sequence[str]) -> None:
        super().__init__({'backbone': MODELS.build(backbone)})
        if neck is not None:
            self['neck'] = MODELS.build(neck)
        self.recorder = LayerRecorder(self, layers)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the recorded maps ``[N, C, H, W]`` of images ``[N, 3, H, W]``.

        Raises:
            UserError: If a layer does not run, outputs no feature map, or outputs one without its graph.
        """
        return self.features_and_maps(images)[1]

    def features_and_maps(self, images: Tensor) -> tuple[tuple[Tensor, ...], list[Tensor]]:
        """Return the input features of a head (those of the neck, if there is one) and the recorded maps.

        Args:
            images: ``[N, 3, H, W]``.

        Raises:
            UserError: See :meth:`forward`.
        """
        self.recorder.start(self)
        features = self['backbone'](images)
        if 'neck' in self:
            features = self['neck'](features)
        maps = self.recorder.stop()
        for path, recorded in zip(self.recorder.paths, maps, strict=True):
            check_feature_map(recorded, f'student layer {path}')
            self._check_graph(path, recorded)
        return features, maps

    def _check_graph(self, path: str, recorded: Tensor) -> None:
        if not torch.is_grad_enabled() or recorded.requires_grad:
            return
        if any(parameter.requires_grad for parameter in self.parameters()):  # the whole student may be frozen
            raise UserError(
                f'student layer {path} is recorded without its graph, so that no weight would learn from it: it is '
                'frozen, or within a stage that recomputes its activations; record a later layer, or exclude this '
                'stage from activation_checkpointing (with_cp=False)'
            )

    @torch.no_grad()
    def channels(self, side: int = 64) -> list[int]:
        """Return the number of channels of each recorded layer, by a forward pass of a zero image.

        Args:
            side: Height and width of the image; HRNet needs a multiple of 32.
        """
        mode = self.training
        maps = self.eval()(torch.zeros(1, 3, side, side))
        self.train(mode)
        return [recorded.shape[1] for recorded in maps]
