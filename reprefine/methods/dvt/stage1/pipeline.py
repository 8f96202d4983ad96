"""Per-image denoising from image to features: the network, the views and either solver."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from torch import Tensor, nn

from reprefine.engine.config_check.check import check_config
from reprefine.engine.data_checks.images import read_image
from reprefine.engine.errors import UserError
from reprefine.registry import MODELS

from ..functional import recentered
from .closed_form import ClosedForm
from .fit import OnStep, fit_fields
from .settings import Stage1Config
from .solution import Solution
from .storage import model_folder
from .views import Views, draw_views, extract_features, image_seed, prepare_image


class Stage1:
    """Denoises images one by one, or several together.

    Args:
        config: The settings.
        device: Where to compute.
        backbone: A network to use instead of the one of the settings, for instance one that was just trained.

    Raises:
        UserError: If the network cannot be built or filled.
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
        self._shared: Views | None = None
        self._closed_form: ClosedForm | None = None

    @property
    def folder(self) -> str:
        """Name of the folder of the model's features."""
        name = self.config.model_id or self.config.backbone.get('model_name') or self.config.backbone['type']
        return model_folder(name, self.stride, self.patch_size)

    def meta(self) -> dict[str, Any]:
        """Return how the features are made, as it is recorded beside them."""
        solver = self.config.closed_form_config if self.config.solver == 'closed-form' else self.config.fit_config
        names = ('solver', 'num_views', 'coord_mode', 'resize_interpolation', 'recenter', 'seed')
        layer = self.config.backbone.get('out_indices', (-1,))
        return dict(
            model_id=self.folder,
            patch_size=self.patch_size,
            stride=self.stride,
            input_size=self.config.image_size,
            mean=self.config.mean,
            std=self.config.std,
            layer=list(layer) if isinstance(layer, list | tuple) else layer,
            **{name: getattr(self.config, name) for name in names},
            profile=self.config.profile if self.config.solver == 'field' else None,
            settings=asdict(solver),
            dtype=self.config.storage_dtype,
        )

    def views(self, name: str) -> Views:
        """Return the views of an image: its own for a field, the same for all in closed form."""
        if self.config.solver == 'field':
            return self._draw(image_seed(self.config.seed, name))
        if self._shared is None:
            self._shared = self._draw(self.config.seed)
        return self._shared

    def _draw(self, seed: int) -> Views:
        cfg = self.config
        return draw_views(cfg.num_views, cfg.image_size, self.patch_size, self.stride, seed, cfg.coord_mode)

    def prepare(self, image: np.ndarray) -> Tensor:
        """Return an RGB image ``[H, W, 3]``, 8 bit, as the network sees it, ``[3, height, width]``."""
        cfg = self.config
        return prepare_image(image, cfg.image_size, cfg.mean, cfg.std, cfg.resize_interpolation).to(self.device)

    def channels(self) -> int:
        """Return C, by one forward pass; the network is refused as in :meth:`features`."""
        blank = torch.zeros(3, *self.config.image_size, device=self.device)
        views = self._draw(0)
        return self.features(blank, Views(views.boxes[-1:], views.coords[-1:])).shape[-1]

    def features(self, image: Tensor, views: Views) -> Tensor:
        """Return the raw features of the views of a prepared image, ``[V + 1, rows, columns, C]``.

        Raises:
            UserError: If they are not finite, or the network has another grid than its patches make.
        """
        cfg = self.config
        storage = None if cfg.feature_device == 'same' else cfg.feature_device
        dtype = getattr(torch, cfg.feature_dtype)
        features = extract_features(self.backbone, image, views.boxes, cfg.batch_size, dtype, storage, cfg.amp)
        if features.shape[:3] != views.coords.shape[:3]:
            height, width = cfg.image_size
            raise UserError(
                f'stage1.size={height}x{width}: the network gives a map of {tuple(features.shape[1:3])}, its patches '
                f'make {tuple(views.coords.shape[1:3])}; use multiples of the patch size {self.patch_size}'
            )
        if not all(torch.isfinite(part).all() for part in features.split(64)):
            raise UserError(f'features are not finite in {cfg.feature_dtype}')
        return features

    def solve(
        self,
        features: Sequence[Tensor],
        views: Sequence[Views],
        names: Sequence[str],
        on_step: OnStep | None = None,
    ) -> list[Solution]:
        """Split the features of several images into content, pattern and remainder.

        Args:
            features: Raw features of each image.
            views: Their views.
            names: Names of the images; a field takes its random numbers from its name.
            on_step: Called after every step of the fields, see :func:`~.fit.fit_fields`.
        """
        if self.config.solver == 'closed-form':
            return [self._equations(view.coords).fit(values) for values, view in zip(features, views, strict=True)]
        coords = [view.coords for view in views]
        seeds = [image_seed(self.config.seed, f'{name}:fit') for name in names]
        fitted = fit_fields(features, coords, seeds, self.config.fit_config, self.device, on_step)
        return [fitted.solution(index) for index in range(len(names))]

    def _equations(self, coords: Tensor) -> ClosedForm:
        """Return the equations of these coordinates; set up again only if they are not the last ones."""
        if self._closed_form is None or not torch.equal(self._closed_form.coords, coords.cpu()):
            self._closed_form = ClosedForm(coords.cpu(), self.config.closed_form_config, self.device)
        return self._closed_form

    def maps(self, solution: Solution, raw: Tensor, coords: Tensor) -> dict[str, Tensor | None]:
        """Return the parts of one view, each ``[rows, columns, C]``, float32 on the CPU.

        They are ``F``, ``G``, ``Delta`` (None without a residual), ``raw``, and ``subtracted``: what is left of ``raw``
        without ``G`` and ``Delta``, the other estimate of the content, for inspection.

        Args:
            solution: What was found out about the image.
            raw: Features of the view, ``[rows, columns, C]``.
            coords: Image coordinates of its tokens, ``[rows, columns, 2]``.
        """
        raw = raw.float().cpu()
        semantics, artifact = solution.semantics(coords), solution.artifact
        if self.config.recenter:
            semantics, artifact = recentered(semantics, artifact)
        residual = None if solution.residual is None else solution.residual(raw)
        subtracted = raw - artifact if residual is None else raw - artifact - residual
        return dict(F=semantics, G=artifact, Delta=residual, raw=raw, subtracted=subtracted)

    def denoise(
        self,
        features: Sequence[Tensor],
        views: Sequence[Views],
        names: Sequence[str],
        on_step: OnStep | None = None,
    ) -> list[dict[str, Tensor | None]]:
        """Return :meth:`maps` of each image seen whole; arguments as for :meth:`solve`."""
        solutions = self.solve(features, views, names, on_step)
        return [
            self.maps(solution, values[-1], view.coords[-1])
            for solution, values, view in zip(solutions, features, views, strict=True)
        ]


def denoise_image(
    image: str | Path | np.ndarray,
    cfg: str | Config | Stage1Config | Stage1,
    device: torch.device | str = 'cpu',
    name: str | None = None,
) -> dict[str, Tensor | None]:
    """Denoise the features of one image.

    Args:
        image: A file, or RGB pixels ``[H, W, 3]``, 8 bit.
        cfg: A config file, its content or its settings; or a :class:`Stage1`, which sets up the network, and in closed
            form the equations, once for all images.
        device: Where to compute, unless ``cfg`` says so.
        name: Name of the image, on which the random numbers of a field depend: in stage 1 its path relative to the data
            root. By default that of the file, or none.

    Returns:
        ``F`` (denoised), ``G`` (shared artifact), ``Delta`` (remainder), ``raw`` and ``subtracted`` (without ``G`` and
        ``Delta``), each ``[rows, columns, C]``.

    Raises:
        UserError: If the image or the config is not usable.
    """
    if isinstance(cfg, str):
        cfg = Config.fromfile(cfg)
    if isinstance(cfg, Config):
        cfg = Stage1Config.from_config(cfg)
    if isinstance(cfg, Stage1Config):
        cfg = Stage1(cfg, device)
    if isinstance(image, str | Path):
        name, image = Path(image).name if name is None else name, read_image(image)
    name = name or ''
    views = cfg.views(name)
    return cfg.denoise([cfg.features(cfg.prepare(image), views)], [views], [name])[0]
