"""Run times of the parts of DVT's stage 1, and how well its solvers recover synthetic features."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from statistics import median

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reprefine.methods.dvt.stage1.features import extract_features
from reprefine.methods.dvt.stage1.solvers.closed_form import ClosedForm, ClosedFormConfig
from reprefine.methods.dvt.stage1.solvers.encoding import HashGrid
from reprefine.methods.dvt.stage1.solvers.field_solver import PROFILES, FitConfig, fit_fields
from reprefine.methods.dvt.stage1.solvers.solver import Solution
from reprefine.methods.dvt.stage1.views import draw_views
from reprefine.methods.dvt.visualization.position_metrics import centered_correlation

from .synthetic import SyntheticViews, synthetic_views

CASES: dict[str, dict[str, float]] = dict(
    clean={}, outliers=dict(outliers=0.02), noise=dict(noise=0.3), both=dict(outliers=0.02, noise=0.3)
)


def measure_seconds(call: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def encode_level_by_level(encoding: HashGrid, coords: Tensor) -> Tensor:
    """Encode points ``[1, N, 2]`` as :class:`HashGrid` does, with one embedding look-up per level and corner."""
    indices, weights = encoding.corners(coords[0])
    table = encoding.table.view(-1, encoding.n_features)
    levels = []
    for level in range(indices.shape[1]):
        corners = [weights[:, level, k, None] * F.embedding(indices[:, level, k], table) for k in range(4)]
        levels.append(sum(corners))
    return torch.cat(levels, -1)[None]


def hash_grid_seconds(repeats: int, points: int = 2048, **settings: int) -> tuple[list[float], list[float], float]:
    """Measure a forward and backward pass of the hash grid.

    Args:
        repeats: Number of timed rounds; each round times both implementations.
        points: Points of a batch.
        **settings: Arguments of :class:`HashGrid`.

    Returns:
        Seconds with one embedding look-up, seconds level by level, and the largest relative difference of the
        gradients.
    """
    encoding = HashGrid(**settings)
    generator = torch.Generator().manual_seed(0)
    encoding.reset(0, generator)
    coords = torch.rand(1, points, 2, generator=generator)

    def step(encode: Callable[[Tensor], Tensor]) -> None:
        encoding.table.grad = None
        encode(coords).square().sum().backward()

    implementations = (encoding, lambda points: encode_level_by_level(encoding, points))
    gradients = []
    for encode in implementations:  # also a warm-up
        step(encode)
        gradients.append(encoding.table.grad)
    rounds = [
        [measure_seconds(lambda encode=encode: step(encode)) for encode in implementations] for _ in range(repeats)
    ]
    one, many = zip(*rounds, strict=True)
    return list(one), list(many), float((gradients[0] - gradients[1]).abs().max() / gradients[1].abs().max())


def extraction_seconds(backbone: nn.Module, size: int, patch_size: int, views: int) -> float:
    """Return the seconds per view of rendering views and of the forward pass of a backbone."""
    boxes = draw_views(views, (size, size), patch_size, patch_size, 0).boxes
    image = torch.randn(3, size, size, generator=torch.Generator().manual_seed(0))
    extract_features(backbone, image, boxes[:1])
    return measure_seconds(lambda: extract_features(backbone, image, boxes)) / len(boxes)


def step_seconds(data: SyntheticViews, images: int, config: FitConfig, steps: int) -> float:
    """Return the median seconds per image of an Adam step, with ``images`` fields fitted together.

    The first steps of both phases, which allocate memory, are left out.
    """
    times: list[float] = []
    fit_fields(
        [data.features] * images,
        [data.coords] * images,
        range(images),
        replace(config, iterations=steps),
        on_step=lambda step, terms: times.append(time.perf_counter()),
    )
    seconds = np.diff(times)
    return median(seconds[2:].tolist()) / images


def closed_form_seconds(data: SyntheticViews, repeats: int) -> tuple[float, float]:
    """Return the seconds of the set-up, which factorises the equations once, and those of solving for each image."""
    solvers: list[ClosedForm] = []
    setup = measure_seconds(lambda: solvers.append(ClosedForm(data.coords)))
    first = measure_seconds(lambda: solvers[0].fit(data.features))
    later = median(measure_seconds(lambda: solvers[0].fit(data.features)) for _ in range(repeats))
    return setup + max(first - later, 0), later


def solve_all(data: SyntheticViews, seed: int) -> Iterator[tuple[str, float, Solution]]:
    """Yield name, seconds and solution of each solver on synthetic features.

    The closed form is timed after its equations are factorised, as for all images but the first.
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
    """Yield solver, seconds, and the correlations with the true ``F`` and ``G``, channel means subtracted.

    The first entry are the raw features. A correlation that does not exist is NaN.
    """
    data = synthetic_views(torch.Generator().manual_seed(seed), **CASES[case])
    yield 'raw features', 0.0, centered_correlation(data.features[-1], data.semantics), float('nan')
    for name, seconds, solution in solve_all(data, seed):
        semantics = centered_correlation(solution.semantics(data.coords[-1]), data.semantics)
        artifact = centered_correlation(solution.artifact, data.artifact) if solution.artifact.any() else float('nan')
        yield name, seconds, semantics, artifact
