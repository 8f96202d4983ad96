"""Stage 1, per-image denoising: views, raw features, decomposition."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from torch import Tensor, nn

from reprefine.engine.data_checks.images import read_image

from .features import FeatureExtractor
from .settings import Stage1Config
from .solvers.closed_form import ClosedFormSolver
from .solvers.field_solver import FieldSolver
from .solvers.solver import OnStep, Solver
from .views import Views


def build_solver(config: Stage1Config, device: torch.device | str = 'cpu') -> Solver:
    """Build the solver of the settings.

    Args:
        config: Settings of stage 1.
        device: Device to compute on.
    """
    if config.solver == 'closed-form':
        return ClosedFormSolver(config.closed_form_config, config.seed, device)
    return FieldSolver(config.fit_config, config.seed, device)


class Stage1:
    """Draws views of an image, extracts their features and decomposes these.

    Args:
        config: Settings.
        device: Device to compute on.
        backbone: A network to use instead of the one of the settings.

    Attributes:
        extractor: The :class:`~.features.FeatureExtractor`.
        solver: The :class:`~.solvers.solver.Solver`.

    Raises:
        UserError: If the backbone cannot be built or its weights cannot be loaded.
    """

    def __init__(self, config: Stage1Config, device: torch.device | str = 'cpu', backbone: nn.Module | None = None):
        self.config = config
        self.extractor = FeatureExtractor(config, device, backbone)
        self.solver = build_solver(config, self.extractor.device)

    def metadata(self) -> dict[str, Any]:
        """Return how the features are made, for the JSON file beside them."""
        cfg, extractor = self.config, self.extractor
        solver = cfg.closed_form_config if cfg.solver == 'closed-form' else cfg.fit_config
        names = ('solver', 'num_views', 'coord_mode', 'resize_interpolation', 'recenter', 'seed')
        layer = cfg.backbone.get('out_indices', (-1,))
        return dict(
            model_id=extractor.model_id,
            patch_size=extractor.patch_size,
            stride=extractor.stride,
            input_size=cfg.image_size,
            mean=cfg.mean,
            std=cfg.std,
            layer=list(layer) if isinstance(layer, list | tuple) else layer,
            **{name: getattr(cfg, name) for name in names},
            profile=cfg.profile if cfg.solver == 'field' else None,
            settings=asdict(solver),
            dtype=cfg.storage_dtype,
        )

    def extract(self, image: np.ndarray, name: str) -> tuple[Tensor, Views]:
        """Return the raw features of the views of an image, ``[V + 1, rows, columns, C]``, and the views.

        Args:
            image: RGB ``[H, W, 3]``, 8 bit.
            name: Name of the image, which its views may depend on.

        Raises:
            UserError: See :meth:`.FeatureExtractor.extract`.
        """
        views = self.extractor.draw_views(self.solver.view_seed(name))
        return self.extractor.extract(self.extractor.prepare(image), views), views

    def denoise(
        self,
        features: Sequence[Tensor],
        views: Sequence[Views],
        names: Sequence[str],
        on_step: OnStep | None = None,
    ) -> list[dict[str, Tensor | None]]:
        """Return the :meth:`~.solver.Solution.components` of the whole-image view of several images.

        Args:
            features: Raw features of each image.
            views: Their views.
            names: Names of the images.
            on_step: See :meth:`.Solver.solve`.
        """
        solutions = self.solver.solve(features, [view.coords for view in views], names, on_step)
        return [
            solution.components(raw[-1], view.coords[-1], self.config.recenter)
            for solution, raw, view in zip(solutions, features, views, strict=True)
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
        cfg: A config file, a config or its settings; or a :class:`Stage1`, which builds the backbone and, in closed
            form, the equations once for all images.
        device: Device to compute on, unless ``cfg`` is a :class:`Stage1`.
        name: Name of the image, which seeds the random numbers of a field; in ``tools/denoise_images.py`` the path
            relative to the data root. By default the name of the file, or empty.

    Returns:
        ``F`` (denoised), ``G`` (shared artifact), ``Delta`` (residual), ``raw`` and ``subtracted`` (without ``G`` and
        ``Delta``), each ``[rows, columns, C]``.

    Raises:
        UserError: If the image cannot be read or the config is invalid.
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
    features, views = cfg.extract(image, name)
    return cfg.denoise([features], [views], [name])[0]
