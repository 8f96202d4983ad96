"""The settings of per-image denoising, as a config gives them."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mmengine.config import Config

from reprefine.engine.errors import UserError

from .closed_form import ClosedFormConfig
from .fit import PROFILES, FitConfig
from .views import INTERPOLATIONS

SOLVERS = ('closed-form', 'field')


@dataclass(frozen=True)
class Stage1Config:
    """The settings of a config: its ``backbone``, its ``native`` size and statistics, and the entries of ``stage1``.

    Attributes:
        backbone: Config of the frozen network.
        size: Side, or height and width, of the images as the network sees them.
        mean: Of the network's input, on the scale 0 to 255.
        std: Likewise.
        model_id: Name of the folder of features; that of the network by default.
        solver: ``'closed-form'`` (least squares) or ``'field'`` (a network an image, fitted by Adam).
        profile: Settings of the field, a key of :data:`~.fit.PROFILES`.
        field: Changes to the profile, see :class:`~.fit.FitConfig`.
        closed_form: Settings of the other solver, see :class:`~.closed_form.ClosedFormConfig`.
        num_views: Random crops of an image, besides the whole.
        coord_mode: ``'endpoint'`` or ``'center'``, see :func:`~.functional.view_coords`.
        resize_interpolation: ``'bicubic'`` or ``'bilinear'``, for the first resizing.
        batch_size: Views of a forward pass.
        feature_dtype: Type in which the features of the views are kept: float32, float16 or bfloat16.
        feature_device: Where they are kept: ``'same'`` as the network, or ``'cpu'``.
        amp: Whether the network computes in mixed precision.
        images_at_once: Images whose fields are fitted together.
        storage_dtype: Type of the files.
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
        )
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise UserError(f'stage1.{name}={getattr(self, name)!r}: use {", ".join(allowed)}')
        for name in ('num_views', 'batch_size', 'images_at_once'):
            if getattr(self, name) < 1:
                raise UserError(f'stage1.{name}={getattr(self, name)}: must be positive')
        self.fit_config, self.closed_form_config  # noqa: B018  refuses unknown settings before work starts

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the images as the network sees them."""
        return (self.size, self.size) if isinstance(self.size, int) else tuple(self.size)

    @property
    def fit_config(self) -> FitConfig:
        """Settings of the field."""
        return _settings(lambda **given: replace(PROFILES[self.profile], **given), self.field, 'stage1.field')

    @property
    def closed_form_config(self) -> ClosedFormConfig:
        """Settings of the least-squares problem."""
        return _settings(ClosedFormConfig, {'seed': self.seed, **self.closed_form}, 'stage1.closed_form')

    @classmethod
    def from_config(cls, cfg: Config, **changes: Any) -> 'Stage1Config':
        """Read a config file's content.

        Args:
            cfg: Config with ``backbone``, ``native`` and ``stage1``.
            **changes: Settings that replace those of the config.

        Raises:
            UserError: If a part is missing, or a setting is unknown or has no such value.
        """
        for name in ('backbone', 'native', 'stage1'):
            if name not in cfg:
                raise UserError(f'the config has no {name}; see configs/dvt/stage1 for what denoising images needs')
        given = {**cfg.native.to_dict(), 'backbone': cfg.backbone.to_dict(), **cfg.stage1.to_dict(), **changes}
        return _settings(cls, given, 'stage1')


def _settings(build: Callable, given: Mapping[str, Any], place: str) -> Any:
    try:
        return build(**given)
    except TypeError as error:
        raise UserError(f'{place}: {error}') from error
