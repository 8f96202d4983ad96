"""Formulas of stage 1 as pure functions (arXiv 2401.02957, section 4.1, and its released code).

The tokens of a view are decomposed as ``y = F(c) + G[p] + Delta(y)``: semantics ``F`` at the image coordinate ``c``,
``(x, y)`` in [0, 1] over the resized image; artifact ``G`` at the position ``p`` in the token grid; residual ``Delta``.
A view is ``(top, left, height, width, flipped)`` in pixels. Positions are numbered row by row.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

TRIES = 10
DRAWS = 2 * TRIES + 3  # area and aspect ratio of every try, then top, left and flip


def crop_views(
    draws: Tensor,
    size: tuple[int, int],
    area: tuple[float, float] = (0.1, 0.5),
    aspect: tuple[float, float] = (3 / 4, 4 / 3),
) -> Tensor:
    """Return random crops by the rule of torchvision's ``RandomResizedCrop``, flipped with probability 1/2.

    Args:
        draws: Uniform numbers in [0, 1), ``[V, DRAWS]``, float64.
        size: Height and width of the image in pixels.
        area: Range of the area of a crop relative to the image, uniform.
        aspect: Range of the aspect ratio width / height, log-uniform.

    Returns:
        Views ``[V, 5]``, int64.
    """
    height, width = size
    tries = draws[:, : 2 * TRIES].reshape(-1, TRIES, 2)
    pixels = height * width * (area[0] + (area[1] - area[0]) * tries[..., 0])
    low, high = (math.log(bound) for bound in aspect)
    ratio = torch.exp(low + (high - low) * tries[..., 1])
    boxes = torch.stack([(pixels / ratio).sqrt().round(), (pixels * ratio).sqrt().round()], -1).long()
    limits = torch.tensor([height, width])
    fits = ((boxes > 0) & (boxes <= limits)).all(-1)
    chosen = boxes[torch.arange(len(boxes)), fits.int().argmax(1)]
    corner = (draws[:, -3:-1] * (limits - chosen + 1)).long()
    central, start = _central_crop(size, aspect)
    found = fits.any(1, keepdim=True)
    chosen, corner = torch.where(found, chosen, central), torch.where(found, corner, start)
    return torch.cat([corner, chosen, (draws[:, -1:] < 0.5).long()], 1)


def _central_crop(size: tuple[int, int], aspect: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Return size and top left corner of the largest central crop within the range of aspect ratios."""
    height, width = size
    if width / height < aspect[0]:
        box = (round(width / aspect[0]), width)
    elif width / height > aspect[1]:
        box = (height, round(height * aspect[1]))
    else:
        box = size
    return torch.tensor(box), torch.tensor([(height - box[0]) // 2, (width - box[1]) // 2])


def whole_view(size: tuple[int, int]) -> Tensor:
    """Return the view ``[1, 5]`` of the whole image, not flipped.

    Args:
        size: Height and width of the image in pixels.
    """
    return torch.tensor([[0, 0, *size, 0]])


def grid_size(size: tuple[int, int], patch_size: int, stride: int) -> tuple[int, int]:
    """Return rows and columns of the token grid of an image of ``size`` pixels: ``(H - P) // S + 1``."""
    return tuple((side - patch_size) // stride + 1 for side in size)


def view_coords(views: Tensor, size: tuple[int, int], patch_size: int, stride: int, mode: str = 'endpoint') -> Tensor:
    """Return the image coordinates of every token of every view.

    ``'endpoint'`` places the first and the last token on the borders of the crop, as the released code does;
    ``'center'`` places tokens at the centres of their patches. Flipped views: ``'endpoint'`` reverses the columns,
    ``'center'`` mirrors at the centre of the crop; these differ where patches leave pixels uncovered at the right.

    Args:
        views: ``[V, 5]``.
        size: Height and width of the resized image, and of the resized views.
        patch_size: Side of the patches in pixels.
        stride: Distance of neighbouring patches in pixels.
        mode: ``'endpoint'`` or ``'center'``.

    Returns:
        ``(x, y)`` in [0, 1], ``[V, rows, columns, 2]``, float32.

    Raises:
        ValueError: If the mode is unknown.
    """
    grid = grid_size(size, patch_size, stride)
    box = views.double()
    lines = []
    for axis in (0, 1):
        step = torch.arange(grid[axis], dtype=torch.float64, device=views.device)
        if mode == 'endpoint':
            relative = step / max(grid[axis] - 1, 1)
        elif mode == 'center':
            relative = (step * stride + patch_size / 2) / size[axis]
        else:
            raise ValueError(f"mode {mode!r} of the coordinates is unknown; use 'endpoint' or 'center'")
        lines.append((box[:, axis, None] + box[:, axis + 2, None] * relative) / size[axis])
    rows, columns = lines
    mirrored = columns.flip(1) if mode == 'endpoint' else (2 * box[:, 1:2] + box[:, 3:4]) / size[1] - columns
    columns = torch.where(views[:, 4:5] == 1, mirrored, columns)
    shape = (len(views), *grid)
    coords = torch.stack([columns[:, None, :].expand(shape), rows[:, :, None].expand(shape)], -1)
    return coords.clamp(0, 1).float()


def artifact_positions(grid: tuple[int, int]) -> Tensor:
    """Return ``(x, y)`` in [-1, 1] of the positions of a token grid, ``[rows, columns, 2]``; flips do not apply."""
    rows, columns = (torch.linspace(-1, 1, count) for count in grid)
    return torch.stack(torch.meshgrid(columns, rows, indexing='xy'), -1)


def sample_artifact(table: Tensor, positions: Tensor) -> Tensor:
    """Interpolate ``G`` bilinearly (``align_corners=True``); at a node the result is its entry.

    Args:
        table: ``[rows, columns, C]``.
        positions: ``(x, y)`` in [-1, 1], ``[..., 2]``.

    Returns:
        ``[..., C]``.
    """
    points = positions.reshape(1, 1, -1, 2)
    values = F.grid_sample(table.movedim(-1, 0)[None], points, align_corners=True, padding_mode='border')
    return values[0, :, 0].T.reshape(*positions.shape[:-1], -1)


def distance_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Return ``L_dist`` of tokens ``[..., N, C]``: mean squared error + 1 - mean cosine, ``[...]``."""
    cosine = F.cosine_similarity(prediction, target, dim=-1, eps=1e-8)
    return (prediction - target).square().mean((-2, -1)) + 1 - cosine.mean(-1)


def residual_loss(residual: Tensor, target: Tensor, explained: Tensor) -> Tensor:
    """Return ``L_res``, the mean squared error of ``Delta`` against ``y - F - G``, which gets no gradient, ``[...]``.

    Args:
        residual: ``Delta``, ``[..., N, C]``.
        target: Raw features ``y``.
        explained: ``F + G``.
    """
    return (residual - (target - explained).detach()).square().mean((-2, -1))


def sparsity_loss(residual: Tensor) -> Tensor:
    """Return ``L_spars``, the mean of ``|Delta|`` over tokens ``[..., N, C]``, ``[...]``."""
    return residual.abs().mean((-2, -1))


def first_residual_step(iterations: int) -> int:
    """Return the first step, from 0, of the phase that trains ``Delta`` and freezes ``G``: ``int(N / 2) + 1``."""
    return int(0.5 * iterations) + 1


def paper_lr(step: int, iterations: int) -> float:
    """Return the learning rate of the first release: linear warm-up from 1e-4 to 0.01, four decays by 0.33."""
    warmup = 0.01 + 0.99 * min(step / (iterations / 10), 1)
    drops = sum(step >= iterations * share for share in (0.25, 0.5, 0.75, 0.9))
    return 0.01 * warmup * 0.33**drops


def head_lr(step: int, iterations: int) -> float:
    """Return the learning rate of the newer code: linear warm-up from 0 to 0.01 over N/10 steps, cosine to 0.001."""
    warmup = iterations // 10
    if step < warmup:
        return 0.01 * step / warmup
    return 0.001 + 0.0045 * (1 + math.cos(math.pi * (step - warmup) / (iterations - warmup)))


SCHEDULES = dict(paper=paper_lr, head=head_lr)


def recentered(semantics: Tensor, artifact: Tensor) -> tuple[Tensor, Tensor]:
    """Move the mean of ``G`` over the grid to ``F``, both ``[rows, columns, C]``; the loss does not change."""
    mean = artifact.mean((0, 1))
    return semantics + mean, artifact - mean
