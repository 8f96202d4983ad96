"""Fitting ``F``, ``G`` and ``Delta`` to the views of one or several images by Adam, in two phases."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from reprefine.engine.errors import UserError

from ..functional import SCHEDULES, distance_loss, first_residual_step, residual_loss, sparsity_loss
from .field import Artifact, Residual, SemanticField
from .solution import Solution

Terms = dict[str, Tensor]
OnStep = Callable[[int, Terms], None]


@dataclass(frozen=True)
class FitConfig:
    """How a field is fitted; the defaults are the profile of the paper.

    Attributes:
        iterations: N; ``G`` is trained up to step N/2, ``Delta`` after it.
        schedule: Course of the learning rate, a key of :data:`~.functional.SCHEDULES`.
        batch_tokens: Tokens of a step, drawn with replacement from those of all views.
        encoding: Arguments of :func:`~.encoding.build_encoding`.
        artifact_std: Standard deviation of the first values of ``G``.
        disable_artifact: Keep ``G`` at 0.
        residual_weight: Weight of ``L_res``.
        sparsity_weight: Weight of ``L_spars``.
        weight_decay: L2 term in the gradient of every parameter.
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
            raise UserError(f'schedule {self.schedule!r} is unknown; use one of {", ".join(SCHEDULES)}')


# Released first, newer code, its sample scripts, and one for a computer without a GPU.
PROFILES: dict[str, FitConfig] = dict(
    paper=FitConfig(),
    head=FitConfig(iterations=25000, schedule='head'),
    demo=FitConfig(iterations=10000),
    cpu=FitConfig(iterations=1500, schedule='head', batch_tokens=1024, encoding=dict(n_levels=8, max_resolution=64)),
)


class ImageFields(nn.Module):
    """``F``, ``G`` and ``Delta`` of a stack of images.

    Args:
        channels: C.
        grid: Rows and columns of the tokens.
        seeds: One an image; every number drawn for an image comes from its own seed.
        config: How they are fitted.
        device: Where they live.
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
        """Return the parts of one image, given on the CPU."""

        def of_image(part: SemanticField | Residual, values: Tensor) -> Tensor:
            points = values.flatten(0, -2).to(self.artifact.table.device, torch.float32)
            return part(points[None], image)[0].cpu().view(*values.shape[:-1], -1)

        return Solution(
            semantics=lambda coords: of_image(self.semantics, coords),
            artifact=self.artifact.maps()[image].cpu(),
            residual=lambda raw: of_image(self.residual, raw),
        )

    def losses(self, raw: Tensor, coords: Tensor, places: Tensor, with_residual: bool) -> Terms:
        """Return the terms of the loss, each ``[B]``.

        Args:
            raw: Features ``y`` of N tokens, ``[B, N, C]``.
            coords: Their image coordinates, ``[B, N, 2]``.
            places: Their places in the token grid, ``[B, N]``.
            with_residual: Whether ``Delta`` takes part.
        """
        explained = self.semantics(coords) + self.artifact(places)
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
    """Fit the fields of several images at once; each comes out as if it were fitted alone.

    Args:
        features: Raw features of the views of each image, ``[V, rows, columns, C]``, of any float type and anywhere.
        coords: Image coordinates of their tokens, ``[V, rows, columns, 2]``, float32.
        seeds: One an image.
        config: How to fit.
        device: Where to compute.
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
    switch = first_residual_step(config.iterations)
    for step in range(config.iterations):
        if step == switch:
            fields.artifact.requires_grad_(False)
        optimizer.param_groups[0]['lr'] = SCHEDULES[config.schedule](step, config.iterations)
        batch = _draw(tokens, points, fields, config.batch_tokens)
        terms = fields.losses(*batch, with_residual=step >= switch)
        optimizer.zero_grad()
        # A sum over images: no image then changes the gradient of another.
        sum(weights[name] * term.sum() for name, term in terms.items()).backward()
        optimizer.step()
        if on_step is not None:
            on_step(step, {name: term.detach() for name, term in terms.items()})
    return fields.requires_grad_(False)


def _draw(
    tokens: Sequence[Tensor], points: Sequence[Tensor], fields: ImageFields, count: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw tokens of every image with replacement: features, coordinates and places."""
    device = points[0].device
    drawn = [
        torch.randint(len(rows), (count,), generator=generator, device=device)
        for rows, generator in zip(tokens, fields.generators, strict=True)
    ]
    raw = [
        rows.index_select(0, index.to(rows.device)).to(device, torch.float32)
        for rows, index in zip(tokens, drawn, strict=True)
    ]
    coords = [rows.index_select(0, index) for rows, index in zip(points, drawn, strict=True)]
    rows, columns = fields.artifact.grid
    return torch.stack(raw), torch.stack(coords), torch.stack(drawn) % (rows * columns)
