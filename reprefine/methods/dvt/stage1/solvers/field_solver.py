"""Neural-field solver: ``F``, ``G`` and ``Delta`` of one or several images are fitted by Adam, in two phases."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from reprefine.engine.errors import UserError

from ...functional import SCHEDULES, distance_loss, first_residual_step, residual_loss, sparsity_loss
from ..views import image_seed
from .field import Artifact, Residual, SemanticField
from .solver import OnStep, Solution, Terms


@dataclass(frozen=True)
class FitConfig:
    """Settings of the fit; the defaults are the recipe of the first release.

    Attributes:
        iterations: N; ``G`` is trained up to step N/2, ``Delta`` after it.
        schedule: Learning rate schedule, a key of :data:`~.functional.SCHEDULES`.
        batch_tokens: Tokens of a batch, drawn with replacement from those of all views.
        encoding: Arguments of :func:`~.encoding.build_encoding`.
        artifact_std: Standard deviation of the initial ``G``.
        disable_artifact: Fix ``G`` at 0.
        residual_weight: Weight of ``L_res``.
        sparsity_weight: Weight of ``L_spars``.
        weight_decay: L2 regularisation of Adam.
    """

    iterations: int = 20000
    schedule: str = 'paper'
    batch_tokens: int = 2048
    encoding: Mapping[str, Any] = field(default_factory=dict)
    artifact_std: float = 0.02
    disable_artifact: bool = False
    residual_weight: float = 0.1
    sparsity_weight: float = 0.02
    weight_decay: float = 1e-5

    def __post_init__(self) -> None:
        if self.schedule not in SCHEDULES:
            raise UserError(f'stage1.field.schedule={self.schedule!r}: use {", ".join(SCHEDULES)}')
        for name in ('iterations', 'batch_tokens'):
            if getattr(self, name) < 1:
                raise UserError(f'stage1.field.{name}={getattr(self, name)}: must be at least 1')


# The first release, the newer code, its sample scripts, and a small one for the CPU.
PROFILES: dict[str, FitConfig] = dict(
    paper=FitConfig(),
    head=FitConfig(iterations=25000, schedule='head'),
    demo=FitConfig(iterations=10000),
    cpu=FitConfig(iterations=1500, schedule='head', batch_tokens=1024, encoding=dict(n_levels=8, max_resolution=64)),
)


class ImageFields(nn.Module):
    """``F``, ``G`` and ``Delta`` of several images, stacked.

    Args:
        channels: C.
        grid: Rows and columns of the tokens.
        seeds: One per image; all random numbers of an image come from its own seed.
        config: Settings.
        device: Device of the parameters.
    """

    def __init__(
        self,
        channels: int,
        grid: tuple[int, int],
        seeds: Sequence[int],
        config: FitConfig,
        device: torch.device | str = 'cpu',
    ):
        super().__init__()
        self.semantics = SemanticField(channels, len(seeds), dict(config.encoding))
        self.artifact = Artifact(channels, grid, len(seeds), config.artifact_std)
        self.residual = Residual(channels, len(seeds))
        self.to(device)
        self.generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]
        for image, generator in enumerate(self.generators):
            for part in (self.semantics, self.artifact, self.residual):
                part.reset(image, generator)
        if config.disable_artifact:
            self.artifact.requires_grad_(False).table.zero_()

    def solution(self, image: int) -> Solution:
        """Return the decomposition of one image; its results are on the CPU."""

        def evaluate(module: SemanticField | Residual, values: Tensor) -> Tensor:
            points = values.flatten(0, -2).to(self.artifact.table.device, torch.float32)
            return module(points[None], image)[0].cpu().view(*values.shape[:-1], -1)

        return Solution(
            semantics=lambda coords: evaluate(self.semantics, coords),
            artifact=self.artifact.maps()[image].cpu(),
            residual=lambda raw: evaluate(self.residual, raw),
        )

    def losses(self, raw: Tensor, coords: Tensor, positions: Tensor, with_residual: bool) -> Terms:
        """Return the terms of the loss, each ``[B]``.

        Args:
            raw: Features ``y`` of N tokens, ``[B, N, C]``.
            coords: Their image coordinates, ``[B, N, 2]``.
            positions: Their indices in the token grid, row by row, ``[B, N]``.
            with_residual: Whether ``Delta`` is trained.
        """
        explained = self.semantics(coords) + self.artifact(positions)
        if not with_residual:
            return dict(distance=distance_loss(explained, raw))
        residual = self.residual(raw)
        return dict(
            distance=distance_loss(explained + residual.detach(), raw),
            residual=residual_loss(residual, raw, explained),
            sparsity=sparsity_loss(residual),
        )


def fit_fields(
    features: Sequence[Tensor],
    coords: Sequence[Tensor],
    seeds: Sequence[int],
    config: FitConfig,
    device: torch.device | str = 'cpu',
    on_step: OnStep | None = None,
) -> ImageFields:
    """Fit the fields of several images together; each result equals that of a fit on its own.

    Args:
        features: Raw features of the views of each image, ``[V, rows, columns, C]``, of any float type on any
            device.
        coords: Image coordinates of their tokens, ``[V, rows, columns, 2]``, float32.
        seeds: One per image.
        config: Settings.
        device: Device to compute on.
        on_step: Called after every step with its number from 0 and the terms of the loss, each ``[B]`` on the device.
    """
    _, *grid, channels = features[0].shape
    fields = ImageFields(channels, tuple(grid), seeds, config, device)
    optimizer = torch.optim.Adam(
        fields.parameters(), betas=(0.9, 0.99), eps=1e-15, weight_decay=config.weight_decay, fused=True
    )
    weights = dict(distance=1.0, residual=config.residual_weight, sparsity=config.sparsity_weight)
    tokens = [values.flatten(0, 2) for values in features]
    points = [values.flatten(0, 2).to(device) for values in coords]
    second_phase = first_residual_step(config.iterations)
    for step in range(config.iterations):
        if step == second_phase:
            fields.artifact.requires_grad_(False)
        optimizer.param_groups[0]['lr'] = SCHEDULES[config.schedule](step, config.iterations)
        batch = draw_tokens(tokens, points, fields, config.batch_tokens)
        terms = fields.losses(*batch, with_residual=step >= second_phase)
        optimizer.zero_grad()
        # Summed over images, so that the gradients of the images are independent.
        sum(weights[name] * term.sum() for name, term in terms.items()).backward()
        optimizer.step()
        if on_step is not None:
            on_step(step, {name: term.detach() for name, term in terms.items()})
    return fields.requires_grad_(False)


def draw_tokens(
    tokens: Sequence[Tensor], points: Sequence[Tensor], fields: ImageFields, count: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw tokens of every image with replacement.

    Args:
        tokens: Features of all tokens of each image, ``[T, C]``.
        points: Their coordinates, ``[T, 2]``.
        fields: Token grid and random generators.
        count: Number N of tokens to draw per image.

    Returns:
        Features ``[B, N, C]``, coordinates ``[B, N, 2]`` and indices in the token grid ``[B, N]``.
    """
    device = points[0].device
    indices = [
        torch.randint(len(rows), (count,), generator=generator, device=device)
        for rows, generator in zip(tokens, fields.generators, strict=True)
    ]
    raw = [
        rows.index_select(0, index.to(rows.device)).to(device, torch.float32)
        for rows, index in zip(tokens, indices, strict=True)
    ]
    coords = [rows.index_select(0, index) for rows, index in zip(points, indices, strict=True)]
    rows, columns = fields.artifact.grid
    return torch.stack(raw), torch.stack(coords), torch.stack(indices) % (rows * columns)


class FieldSolver:
    """The neural fields as a :class:`~.solver.Solver`: every image has its own views and random numbers.

    Args:
        config: Settings.
        seed: Seed of the run; that of an image also depends on its name.
        device: Device to compute on.
    """

    def __init__(self, config: FitConfig, seed: int = 0, device: torch.device | str = 'cpu'):
        self.config, self.seed, self.device = config, seed, device

    def view_seed(self, name: str) -> int:
        """Return the seed of the views of an image."""
        return image_seed(self.seed, name)

    def solve(
        self,
        features: Sequence[Tensor],
        coords: Sequence[Tensor],
        names: Sequence[str],
        on_step: OnStep | None = None,
    ) -> list[Solution]:
        """Decompose the features of several images, see :meth:`.Solver.solve`."""
        seeds = [image_seed(self.seed, f'{name}:fit') for name in names]
        fields = fit_fields(features, coords, seeds, self.config, self.device, on_step)
        return [fields.solution(index) for index in range(len(names))]
