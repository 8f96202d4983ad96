"""Extraction of the raw features of views by a frozen backbone."""

import numpy as np
import torch
from mmengine.config import Config
from torch import Tensor, nn

from reprefine.engine.config_check.check import check_config
from reprefine.engine.errors import UserError
from reprefine.registry import MODELS

from .settings import Stage1Config
from .storage import model_folder
from .views import Views, draw_views, prepare_image, render_view


@torch.no_grad()
def extract_features(
    backbone: nn.Module,
    image: Tensor,
    boxes: Tensor,
    batch_size: int = 32,
    dtype: torch.dtype = torch.float32,
    storage: torch.device | str | None = None,
    amp: bool = False,
) -> Tensor:
    """Return the features of the views of an image.

    Args:
        backbone: Network in eval mode; the last entry of its output is a feature map ``[B, C, rows, columns]``, or a
            pair of it and a class token.
        image: Normalised image ``[3, H, W]`` on the device of the network.
        boxes: Views ``[V, 5]``, see :mod:`~..functional`.
        batch_size: Views of a forward pass.
        dtype: Type of the returned features.
        storage: Device of the returned features; that of the network by default.
        amp: Whether the network computes in mixed precision.

    Returns:
        ``[V, rows, columns, C]``.
    """
    features = None
    for first in range(0, len(boxes), batch_size):
        batch = torch.stack([render_view(image, box) for box in boxes[first : first + batch_size]])
        with torch.autocast(image.device.type, enabled=amp):
            maps = backbone(batch)[-1]
        maps = (maps[0] if isinstance(maps, tuple | list) else maps).movedim(1, -1)
        if features is None:  # allocated once: concatenating batches would need twice the memory
            features = torch.empty(len(boxes), *maps.shape[1:], dtype=dtype, device=storage or image.device)
        features[first : first + len(maps)] = maps.to(features)
    return features


class FeatureExtractor:
    """A frozen backbone that gives the raw features of the views of an image.

    Args:
        config: Settings of stage 1: the backbone, its input, and type and device of the features.
        device: Device of the backbone.
        backbone: A network to use instead of the one of the settings, for instance one that was just trained.

    Attributes:
        backbone: The network, in eval mode.
        patch_size: Side of its patches in pixels.
        stride: Distance of neighbouring patches in pixels.

    Raises:
        UserError: If the backbone cannot be built or its weights cannot be loaded.
    """

    def __init__(self, config: Stage1Config, device: torch.device | str = 'cpu', backbone: nn.Module | None = None):
        self.config, self.device = config, torch.device(device)
        if backbone is None:
            check_config(Config(dict(model=dict(backbone=dict(config.backbone)))))
            backbone = MODELS.build(dict(config.backbone))
            backbone.init_weights()
        self.backbone = backbone.to(self.device).eval().requires_grad_(False)
        conv = next(module for module in backbone.modules() if isinstance(module, nn.Conv2d))
        self.patch_size, self.stride = conv.kernel_size[0], conv.stride[0]

    @property
    def model_id(self) -> str:
        """Id of the features: the name of the model, with the stride of the patches where it is not their size."""
        name = self.config.model_id or self.config.backbone.get('model_name') or self.config.backbone['type']
        return model_folder(name, self.stride, self.patch_size)

    def draw_views(self, seed: int) -> Views:
        """Draw ``num_views`` random crops and add the whole image, see :func:`~.views.draw_views`."""
        cfg = self.config
        return draw_views(cfg.num_views, cfg.image_size, self.patch_size, self.stride, seed, cfg.coord_mode)

    def prepare(self, image: np.ndarray) -> Tensor:
        """Resize and normalise an RGB image ``[H, W, 3]``, 8 bit, for the backbone; returns ``[3, height, width]``."""
        cfg = self.config
        return prepare_image(image, cfg.image_size, cfg.mean, cfg.std, cfg.resize_interpolation).to(self.device)

    def extract(self, image: Tensor, views: Views) -> Tensor:
        """Return the raw features of the views of a prepared image, ``[V + 1, rows, columns, C]``.

        Raises:
            UserError: If they are not finite, or their grid is not that of the patches.
        """
        cfg = self.config
        storage = None if cfg.feature_device == 'same' else cfg.feature_device
        dtype = getattr(torch, cfg.feature_dtype)
        features = extract_features(self.backbone, image, views.boxes, cfg.batch_size, dtype, storage, cfg.amp)
        if features.shape[:3] != views.coords.shape[:3]:
            height, width = cfg.image_size
            raise UserError(
                f'native.size={height}x{width}: the backbone gives a feature map of {tuple(features.shape[1:3])}, its '
                f'patches form a grid of {tuple(views.coords.shape[1:3])}; use multiples of the patch size '
                f'{self.patch_size}'
            )
        if not all(torch.isfinite(part).all() for part in features.split(64)):
            raise UserError(
                f'features are not finite in {cfg.feature_dtype}; check the weights of the backbone, or set '
                'stage1.feature_dtype=float32'
            )
        return features

    def channels(self) -> int:
        """Return the number of channels C, by one forward pass; raises as :meth:`extract` does."""
        blank = torch.zeros(3, *self.config.image_size, device=self.device)
        views = self.draw_views(0)
        return self.extract(blank, Views(views.boxes[-1:], views.coords[-1:])).shape[-1]
