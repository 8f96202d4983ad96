"""Measurements of per-image denoising: time of its parts, and what the solvers recover of known features."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from statistics import median

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .stage1.closed_form import ClosedForm, ClosedFormConfig
from .stage1.encoding import HashGrid
from .stage1.fit import PROFILES, FitConfig, fit_fields
from .stage1.solution import Solution
from .stage1.views import draw_views, extract_features
from .synthetic import SyntheticViews, centred_correlation, synthetic_views

CASES: dict[str, dict[str, float]] = dict(
    clean={}, outliers=dict(outliers=0.02), noise=dict(noise=0.3), both=dict(outliers=0.02, noise=0.3)
)


def timed(call: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def level_by_level(encoding: HashGrid, coords: Tensor) -> Tensor:
    """Encode points ``[1, N, 2]`` as :class:`~.encoding.HashGrid` does, with a look-up for each level and corner."""
    indices, weights = encoding.corners(coords[0])
    table = encoding.table.view(-1, encoding.n_features)
    levels = []
    for level in range(indices.shape[1]):
        corners = [weights[:, level, k, None] * F.embedding(indices[:, level, k], table) for k in range(4)]
        levels.append(sum(corners))
    return torch.cat(levels, -1)[None]


def hash_grid_times(repeats: int, points: int = 2048, **settings: int) -> tuple[list[float], list[float], float]:
    """Return seconds of encoding and gradient: by one look-up, level by level, and the relative difference.

    Args:
        repeats: Timed rounds, both ways in turn.
        points: Points of a batch.
        **settings: Of the grid, by default the largest.
    """
    encoding = HashGrid(**settings)
    generator = torch.Generator().manual_seed(0)
    encoding.reset(0, generator)
    coords = torch.rand(1, points, 2, generator=generator)

    def step(encode: Callable[[Tensor], Tensor]) -> None:
        encoding.table.grad = None
        encode(coords).square().sum().backward()

    ways = (encoding, lambda points: level_by_level(encoding, points))
    gradients = []
    for encode in ways:  # also a warm-up
        step(encode)
        gradients.append(encoding.table.grad)
    rounds = [[timed(lambda encode=encode: step(encode)) for encode in ways] for _ in range(repeats)]
    one, many = zip(*rounds, strict=True)
    return list(one), list(many), float((gradients[0] - gradients[1]).abs().max() / gradients[1].abs().max())


def extraction_time(backbone: nn.Module, size: int, patch_size: int, views: int) -> float:
    """Return the seconds a view takes in a network, rendering included."""
    boxes = draw_views(views, (size, size), patch_size, patch_size, 0).boxes
    image = torch.randn(3, size, size, generator=torch.Generator().manual_seed(0))
    extract_features(backbone, image, boxes[:1])
    return timed(lambda: extract_features(backbone, image, boxes)) / len(boxes)


def step_time(data: SyntheticViews, images: int, config: FitConfig, steps: int) -> float:
    """Return the median seconds of a step of Adam for one of ``images`` fields fitted together.

    The first steps of both phases, which allocate, do not count.
    """
    marks: list[float] = []
    fit_fields(
        [data.features] * images,
        [data.coords] * images,
        range(images),
        replace(config, iterations=steps),
        on_step=lambda step, terms: marks.append(time.perf_counter()),
    )
    spans = np.diff(marks)
    return median(spans[2:].tolist()) / images


def closed_form_times(data: SyntheticViews, repeats: int) -> tuple[float, float]:
    """Return the seconds of setting up and of solving for an image after the first, which factorises the equations."""
    solvers: list[ClosedForm] = []
    setup = timed(lambda: solvers.append(ClosedForm(data.coords)))
    first = timed(lambda: solvers[0].fit(data.features))
    later = median(timed(lambda: solvers[0].fit(data.features)) for _ in range(repeats))
    return setup + max(first - later, 0), later


def solvers(data: SyntheticViews, seed: int) -> Iterator[tuple[str, float, Solution]]:
    """Yield name, seconds and result of every way to fit synthetic features.

    The equations of the closed form are factorised before its time is taken, as for all images but the first.
    """
    config = PROFILES['cpu']
    for name, settings in (('Adam', config), ('Adam, F only', replace(config, disable_artifact=True))):
        start = time.perf_counter()
        solution = fit_fields([data.features], [data.coords], [seed], settings).solution(0)
        yield name, time.perf_counter() - start, solution
    for name, settings in (('closed form, 1 reweighting', {}), ('closed form, plain', dict(reweight=0))):
        solver = ClosedForm(data.coords, ClosedFormConfig(**settings))
        solver.fit(data.features)
        start = time.perf_counter()
        solution = solver.fit(data.features)
        yield name, time.perf_counter() - start, solution


def recovery(case: str, seed: int) -> Iterator[tuple[str, float, float, float]]:
    """Yield solver, seconds, and correlation with the true ``F`` and ``G``, channel means taken off."""
    data = synthetic_views(torch.Generator().manual_seed(seed), **CASES[case])
    yield 'raw features', 0.0, centred_correlation(data.features[-1], data.semantics), float('nan')
    for name, seconds, solution in solvers(data, seed):
        content = centred_correlation(solution.semantics(data.coords[-1]), data.semantics)
        pattern = centred_correlation(solution.artifact, data.artifact) if solution.artifact.any() else float('nan')
        yield name, seconds, content, pattern
