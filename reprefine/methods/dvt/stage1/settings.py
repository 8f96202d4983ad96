"""Settings of stage 1, as read from a config."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mmengine.config import Config

from reprefine.engine.errors import UserError

from .solvers.closed_form import ClosedFormConfig
from .solvers.field_solver import PROFILES, FitConfig
from .views import INTERPOLATIONS

SOLVERS = ('closed-form', 'field')


@dataclass(frozen=True)
class Stage1Config:
    """The entries ``backbone``, ``native`` (input of the backbone) and ``stage1`` of a config.

    Attributes:
        backbone: Config of the frozen backbone.
        size: Side, or height and width, of the input images in pixels.
        mean: Mean of each input channel, on the scale 0 to 255.
        std: Standard deviation of each input channel, on the same scale.
        model_id: Id of the features, the name of their folder; the model name of the backbone by default.
        solver: ``'closed-form'`` (least squares) or ``'field'`` (a neural field per image, fitted by Adam).
        profile: Recipe of the field, a key of :data:`~.solvers.field_solver.PROFILES`.
        field: Changes to the profile, see :class:`~.solvers.field_solver.FitConfig`.
        closed_form: Settings of the closed form, see :class:`~.solvers.closed_form.ClosedFormConfig`.
        num_views: Number of random crops of an image, besides the whole image.
        coord_mode: ``'endpoint'`` or ``'center'``, see :func:`~..functional.view_coords`.
        resize_interpolation: ``'bicubic'`` or ``'bilinear'``, for resizing the image; views are always bicubic.
        batch_size: Views of a forward pass.
        feature_dtype: Type of the features of the views in memory: float32, float16 or bfloat16.
        feature_device: Their device: ``'same'`` as the backbone, or ``'cpu'``.
        amp: Whether the backbone computes in mixed precision.
        images_at_once: Number of images whose fields are fitted together.
        storage_dtype: Type of the stored features: float32 or float16.
        recenter: Move the mean of ``G`` to ``F``.
        seed: Seed of the run.
    """

    backbone: Mapping[str, Any]
    size: int | Sequence[int]
    mean: Sequence[float]
    std: Sequence[float]
    model_id: str | None = None
    solver: str = 'closed-form'
    profile: str = 'paper'
    field: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    closed_form: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    num_views: int = 768
    coord_mode: str = 'endpoint'
    resize_interpolation: str = 'bicubic'
    batch_size: int = 32
    feature_dtype: str = 'float32'
    feature_device: str = 'same'
    amp: bool = False
    images_at_once: int = 1
    storage_dtype: str = 'float32'
    recenter: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        choices = dict(
            solver=SOLVERS,
            profile=tuple(PROFILES),
            coord_mode=('endpoint', 'center'),
            resize_interpolation=INTERPOLATIONS,
            feature_dtype=('float32', 'float16', 'bfloat16'),
            feature_device=('same', 'cpu'),
            storage_dtype=('float32', 'float16'),
        )
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise UserError(f'stage1.{name}={getattr(self, name)!r}: use {", ".join(allowed)}')
        for name in ('num_views', 'batch_size', 'images_at_once'):
            if getattr(self, name) < 1:
                raise UserError(f'stage1.{name}={getattr(self, name)}: must be at least 1')
        if not isinstance(self.size, int) and len(self.size) != 2:
            raise UserError(f'native.size={self.size}: give the side, or height and width')
        for name in ('mean', 'std'):
            if len(getattr(self, name)) != 3:
                raise UserError(f'native.{name}={getattr(self, name)}: give one number for each of red, green and blue')
        self.fit_config, self.closed_form_config  # noqa: B018  raises for unknown settings

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the input images in pixels."""
        return (self.size, self.size) if isinstance(self.size, int) else tuple(self.size)

    @property
    def fit_config(self) -> FitConfig:
        """Settings of the fit: the profile with the changes of ``field``."""
        return _settings(lambda **given: replace(PROFILES[self.profile], **given), self.field, 'stage1.field')

    @property
    def closed_form_config(self) -> ClosedFormConfig:
        """Settings of the least-squares problem."""
        return _settings(ClosedFormConfig, {'seed': self.seed, **self.closed_form}, 'stage1.closed_form')

    @classmethod
    def from_config(cls, cfg: Config, **changes: Any) -> 'Stage1Config':
        """Read the settings of a config.

        Args:
            cfg: Config with ``backbone``, ``native`` and ``stage1``.
            **changes: Settings that override those of the config.

        Raises:
            UserError: If an entry is missing, or a setting is unknown or has an invalid value.
        """
        for name in ('backbone', 'native', 'stage1'):
            if name not in cfg:
                raise UserError(f'the config has no {name}; see configs/dvt/stage1 for backbone, native and stage1')
        given = {**cfg.native.to_dict(), 'backbone': cfg.backbone.to_dict(), **cfg.stage1.to_dict(), **changes}
        return _settings(cls, given, 'stage1')


def _settings(build: Callable, given: Mapping[str, Any], key: str) -> Any:
    try:
        return build(**given)
    except TypeError as error:
        raise UserError(f'{key}: {error}') from error
